"""Writing frames: a video file, a folder of PNG, or one PNG, which appears whole or not at all."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from av.error import FFmpegError
from jaxtyping import Float

from ldip_jax.errors import InputError
from ldip_jax.media.clip import Clip
from ldip_jax.media.coding import BitDepth, choose_coding
from ldip_jax.media.muxer import Muxer
from ldip_jax.media.outputs import check_output, output_kind
from ldip_jax.media.run_folder import RunFolder, Step
from ldip_jax.media.sinks import ImageSink, Sink, VideoSink
from ldip_jax.untrusted import reason

# Frames of a step if the caller makes none.
_STEP = 240


def _too_many(path: Path) -> InputError:
    return InputError(f"{path}: one image holds one frame only; give a folder or a video file")


class Writer:
    """Takes frames one by one; see `open_writer`.

    A context manager: the output appears when its block ends. If the block raises, `KeyboardInterrupt`
    included, the output does not appear; nothing is left but, for a run that can be resumed, the folder of
    finished steps.

    Attributes:
        path: the output; until the block ends, another name may be given.
        notes: what was decided, such as the codec and what becomes of the sound; complete once entered.
        steps: what an earlier run has finished, once entered.
        complete: an earlier run has finished everything; then nothing can be written.
        resumable_folder: the folder that is left for a run that resumes, after the block has raised.
        resumed_frames: how many frames an earlier run has finished.
        discarded_frames: how many finished frames of an earlier run were thrown away.
        held_bytes: from the number of frames (None: unknown) to the bytes of memory that an encoder holds.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        make_sink: Callable[[RunFolder], Sink],
        max_frames: int | None = None,
        *,
        identity: Mapping[str, Any] | None = None,
        resume: bool = False,
        held_bytes: Callable[[int | None], int] = lambda count: 0,
    ):
        """
        Args:
            size: (height, width) of the frames.
            make_sink: makes what takes the frames.
            max_frames: frames that the output can hold; None: any number.
            identity: what the output is made from; None: this run cannot be resumed.
            resume: continue an earlier run if there is one.
            held_bytes: see the attribute.
        """
        self.path = path
        self.held_bytes = held_bytes
        self.notes: list[str] = []
        self.steps: list[Step] = []
        self.complete = False
        self.resumable_folder: Path | None = None
        self.resumed_frames = self.discarded_frames = 0
        self._size, self._make_sink, self._max_frames = size, make_sink, max_frames
        self._identity, self._resume = identity, resume
        self._folder = RunFolder(path)
        self._sink: Sink | None = None
        self._numbers: list[int] | None = None
        self._stepped = False
        self._created_folders: list[Path] = []

    def __enter__(self) -> "Writer":
        with self._writing():
            try:
                self._make_folders()
                self._open()
            except BaseException:
                self._remove_folders()
                raise
        return self

    def _open(self) -> None:
        sink = self._make_sink(self._folder)
        self._folder.open(self._identity or {}, resume=self._resume, count_intact=sink.count_intact)
        self.discarded_frames = self._folder.discarded_frames if self._identity is not None else 0
        try:
            self.complete = self._folder.is_complete
            if self.complete:
                sink.place(self.path)
                self._folder.remove()
                return
            sink.start()
        except BaseException:
            sink.close_files()
            self._abandon()
            raise
        self._sink, self.notes = sink, sink.notes
        self.steps = list(self._folder.steps)
        self.resumed_frames = self._folder.finished_frames

    @property
    def finished(self) -> int:
        """How many frames are finished, those of an earlier run too."""
        return self._folder.finished_frames

    def begin(self, count: int) -> None:
        """Begin a step of `count` frames, which are finished together."""
        assert self._sink is not None, "begin inside the writer's with block"
        self._stepped = True
        with self._writing():
            self._sink.begin(count)
        self._numbers = []

    def write(self, frame: Float[np.ndarray, "h w 3"], number: int | None = None) -> None:
        """Add a frame of R'G'B' in [0, 1]; values beyond are clipped.

        Args:
            number: of the frame in the clip; None: as many as are written already.

        Raises:
            InputError: no space left, or another reason why the output cannot be written.
        """
        assert self._sink is not None, "write inside the writer's with block"
        if frame.shape[:2] != self._size:
            raise ValueError(f"a frame of {frame.shape[:2]} for an output of {self._size} (height, width)")
        if self._numbers is None:
            self.begin(_STEP)
            self._stepped = False
        assert self._numbers is not None
        place = self._folder.finished_frames + len(self._numbers)
        if self._max_frames is not None and place >= self._max_frames:
            raise _too_many(self.path)
        number = place if number is None else number
        with self._writing():
            self._sink.write(frame, number)
        self._numbers.append(number)
        if not self._stepped and len(self._numbers) == _STEP:
            self.end()

    def end(self, extra: Mapping[str, Any] | None = None) -> None:
        """End the step: a run that resumes does not make its frames again.

        Args:
            extra: what such a run finds in `steps`.
        """
        assert self._sink is not None, "end inside the writer's with block"
        assert self._numbers, "end a step that has frames"
        with self._writing():
            data = self._sink.end()
            self._folder.commit(Step(self._folder.finished_frames, self._numbers, data, dict(extra or {})))
            self._sink.remove_superfluous()
        self._numbers = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sink is None:
            return
        finished = False
        try:
            if kind is None:
                self._finish(self._sink)
                finished = True
        finally:
            sink, self._sink = self._sink, None
            if not finished:
                sink.close_files()
                self._abandon()
                if self.resumable_folder is None:
                    self._remove_folders()

    def _finish(self, sink: Sink) -> None:
        if self._numbers:
            self.end()
        if self._folder.finished_frames == 0:
            raise ValueError(f"{self.path}: no frame was written")
        with self._writing():
            sink.finish()
            self._folder.mark_complete()
            sink.place(self.path)
            self._folder.remove()

    def _abandon(self) -> None:
        """Leave the folder to a run that resumes, or remove it."""
        if self._identity is not None and self._folder.steps:
            self.resumable_folder = self._folder.path
            self._folder.close()
        else:
            self._folder.remove()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Names the output in errors about files in the folder."""
        try:
            yield
        except (OSError, FFmpegError) as error:
            raise self._unwritable(error) from error
        except InputError as error:
            if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FFmpegError):
                raise self._unwritable(error.__cause__) from error.__cause__
            raise

    def _unwritable(self, error: OSError | FFmpegError) -> InputError:
        if isinstance(error, OSError):
            return InputError(f"{self.path}: cannot be written ({reason(error)}); choose another place")
        return InputError(f"{self.path}: cannot be written ({reason(error)}); choose another format")

    def _make_folders(self) -> None:
        missing = []
        folder = Path(os.path.abspath(self.path)).parent
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for folder in reversed(missing):
            folder.mkdir()
            self._created_folders.append(folder)

    def _remove_folders(self) -> None:
        with suppress(OSError):
            for folder in reversed(self._created_folders):
                folder.rmdir()


def open_writer(
    path: str | Path,
    *,
    height: int,
    width: int,
    fps: Fraction | None = None,
    names: Sequence[str] | None = None,
    source: Clip | None = None,
    bit_depth: BitDepth = "auto",
    crf: int | None = None,
    lossless: bool = False,
    codec: str = "h264",
    overwrite: bool = False,
    identity: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> Writer:
    """A writer for frames of one size: a video file (.mp4, .m4v, .mov, .mkv), one `.png`, or a folder of PNG.

    Missing parent folders are made. The file or folder appears under its name when the writer's block ends
    well, and only then. Until then, everything is in the folder `.OUT.ldip` beside it.

    Args:
        path: the output; its suffix decides what is written.
        height, width: of the frames. Odd sizes are kept, in 4:4:4 chroma.
        fps: frames per second; None takes the timing of `source`, or 25 for images.
        names: names of the PNG files; None takes those of `source`, else `00000000.png` ...
        source: the input, whose timing, pixel shape, colours, sound, subtitles, tags and attachments are
            kept.
        bit_depth: of PNG, 8 ("auto" too) or 16; video is written with 8 bits, or 10 for 16, and "auto" takes
            10 where `source` has more than 8.
        crf: quality of video, 0 (best) to 51, None for 18; of VP9 and AV1 to 63, None for 24.
        lossless: decoding gives exactly round(255 y) back: FFV1 in .mkv (with 16 bits, round(65535 y) too),
            RGB H.264 in the others. `crf` and `codec` then do not count.
        codec: a name of `CODECS`: "h264" and "h265" for all files, "vp9" and "av1" for .mp4, .m4v and .mkv,
            "prores" (10 bits) for .mov and .mkv, "ffv1" (as `lossless`) for .mkv.
        overwrite: replace an existing output; in an existing folder, PNG files of such a run only.
        identity: what the frames are made from. With it, finished steps are kept when the writer's block
            raises, and a writer with the same identity may resume from them. None: nothing is kept.
        resume: continue from the steps of an earlier run, if there are any; otherwise they are removed.

    Raises:
        InputError: at once if the output cannot be written this way; from the writer if it fails later.
    """
    path = Path(path)
    kind = output_kind(path)
    if names is None:
        names = source.names if source is not None else ()
    check_output(path, overwrite=overwrite, inputs=[source.path] if source is not None else (), names=names)
    size = (height, width)
    if kind == "video":
        coding = choose_coding(
            path,
            height=height,
            width=width,
            source=source,
            bit_depth=bit_depth,
            crf=crf,
            lossless=lossless,
            codec=codec,
        )
        settings = {"codec": [coding.encoder, coding.layout, str(coding.color), coding.options]}

        def video(folder: RunFolder) -> Sink:
            keep = identity is not None
            return VideoSink(
                folder,
                path,
                coding,
                height=height,
                width=width,
                source=source,
                make_muxer=lambda file: Muxer(
                    file, path, coding, height=height, width=width, fps=fps, source=source
                ),
                keep_pending=keep,
            )

        known = None if identity is None else {**identity, **settings}
        held = partial(coding.held_bytes, height * width)
        return Writer(path, size, video, identity=known, resume=resume, held_bytes=held)
    if bit_depth not in ("auto", 8, 16):
        raise InputError(f"bit depth {bit_depth}: PNG has 8 or 16 bits; choose one of them")
    bits = 16 if bit_depth == 16 else 8
    known = None if identity is None else {**identity, "bit depth": bits}
    if kind == "folder":
        return Writer(
            path, size, lambda folder: ImageSink(folder, names, bits), identity=known, resume=resume
        )
    if len(names) > 1 or (source is not None and source.count != 1):
        raise _too_many(path)
    return Writer(
        path,
        size,
        lambda folder: ImageSink(folder, names, bits, single=True),
        max_frames=1,
        identity=known,
        resume=resume,
    )
