"""Writing frames: a video file, a folder of PNG, or one PNG, which appears whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from jaxtyping import Float

from ldip_jax.errors import InputError
from ldip_jax.media.clip import Clip
from ldip_jax.media.encoder import VideoSink, choose_coding
from ldip_jax.media.images import write_png
from ldip_jax.media.outputs import check_output, is_ours, output_kind


class _Sink(Protocol):
    notes: list[str]

    def write(self, rgb: Float[np.ndarray, "h w 3"]) -> None: ...

    def finish(self) -> None: ...

    def discard(self) -> None: ...


class _FolderSink:
    """PNG files, collected in a hidden folder and moved to their place at the end."""

    def __init__(self, path: Path, names: Sequence[str], bit_depth: int):
        self.notes = [f"PNG, {bit_depth} bits"]
        self._path, self._names, self._bit_depth, self._number = path, names, bit_depth, 0
        # An existing folder stays what it is (it may be a mount); a new one appears by one renaming.
        self._existed = path.is_dir()
        self._part = (path if self._existed else path.parent) / f".{secrets.token_hex(8)}.part"
        self._part.mkdir()

    def write(self, rgb: Float[np.ndarray, "h w 3"]) -> None:
        number = self._number
        name = self._names[number] if number < len(self._names) else f"{number:08d}.png"
        try:
            write_png(self._part / name, rgb, self._bit_depth)
        except InputError as error:
            # It names a hidden file; who knows the output names that.
            raise error.__cause__ or error from None
        self._number += 1

    def finish(self) -> None:
        if not self._existed:
            os.rename(self._part, self._path)
            return
        names = frozenset(self._names)
        for old in self._path.iterdir():
            if is_ours(old, names):
                old.unlink()
        for new in sorted(self._part.iterdir()):
            os.replace(new, self._path / new.name)
        self._part.rmdir()

    def discard(self) -> None:
        shutil.rmtree(self._part, ignore_errors=True)


class _ImageSink:
    """One PNG, kept until the end."""

    def __init__(self, path: Path, bit_depth: int):
        self.notes = [f"PNG, {bit_depth} bits"]
        self._path, self._bit_depth = path, bit_depth
        self._rgb: np.ndarray | None = None

    def write(self, rgb: Float[np.ndarray, "h w 3"]) -> None:
        if self._rgb is not None:
            raise _too_many(self._path)
        self._rgb = rgb.copy()

    def finish(self) -> None:
        assert self._rgb is not None
        write_png(self._path, self._rgb, self._bit_depth)

    def discard(self) -> None:
        self._rgb = None


def _too_many(path: Path) -> InputError:
    return InputError(f"{path}: one image holds one frame only; give a folder or a video file")


class Writer:
    """Takes frames one by one; see `open_writer`.

    A context manager: the output appears when its block ends, and nothing is left of it when the block
    raises, `KeyboardInterrupt` included.

    Attributes:
        path: the output.
        notes: what was decided, such as the codec and what becomes of the sound; complete once entered.
    """

    def __init__(self, path: Path, size: tuple[int, int], make: Callable[[], _Sink]):
        self.path = path
        self.notes: list[str] = []
        self._size, self._make, self._number = size, make, 0
        self._sink: _Sink | None = None
        self._made: list[Path] = []

    def __enter__(self) -> "Writer":
        try:
            self._make_folders()
            self._sink = self._make()
        except BaseException as error:
            self._remove_folders()
            if isinstance(error, OSError):
                raise self._unwritable(error) from error
            raise
        self.notes = self._sink.notes
        return self

    def write(self, frame: Float[np.ndarray, "h w 3"]) -> None:
        """Add a frame of R'G'B' in [0, 1]; values beyond are clipped.

        Raises:
            InputError: no space left, or another reason why the output cannot be written.
        """
        assert self._sink is not None, "write inside the writer's with block"
        if frame.shape[:2] != self._size:
            raise ValueError(f"a frame of {frame.shape[:2]} for an output of {self._size} (height, width)")
        try:
            self._sink.write(frame)
        except OSError as error:
            raise self._unwritable(error) from error
        self._number += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._sink is not None
        sink, self._sink = self._sink, None
        finished = False
        try:
            if kind is None:
                if self._number == 0:
                    raise ValueError(f"{self.path}: no frame was written")
                sink.finish()
                finished = True
        except OSError as problem:
            raise self._unwritable(problem) from problem
        finally:
            if not finished:
                sink.discard()
                self._remove_folders()

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(f"{self.path}: cannot be written ({error.strerror or error}); choose another place")

    def _make_folders(self) -> None:
        missing = []
        folder = Path(os.path.abspath(self.path)).parent
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for folder in reversed(missing):
            folder.mkdir()
            self._made.append(folder)

    def _remove_folders(self) -> None:
        with suppress(OSError):
            for folder in reversed(self._made):
                folder.rmdir()


def open_writer(
    path: str | Path,
    *,
    height: int,
    width: int,
    fps: Fraction | None = None,
    names: Sequence[str] | None = None,
    like: Clip | None = None,
    bit_depth: int = 8,
    crf: int | None = None,
    lossless: bool = False,
    codec: str = "h264",
    overwrite: bool = False,
) -> Writer:
    """A writer for frames of one size: a video file (.mp4, .m4v, .mov, .mkv), one `.png`, or a folder of PNG.

    Missing parent folders are made. The file or folder appears under its name when the writer's block ends
    well, and only then.

    Args:
        path: the output; its suffix decides what is written.
        height, width: of the frames. Odd sizes are kept, in 4:4:4 chroma.
        fps: frames per second; None takes the timing of `like`, or 25 for images.
        names: names of the PNG files; None takes those of `like`, else `00000000.png` ...
        like: the input, whose timing, pixel shape, colour coding, sound, subtitles and titles are kept.
        bit_depth: of PNG, 8 or 16; video is written with 8 bits, or 10 for 16.
        crf: quality of H.264 and H.265, 0 (best) to 51; None for 18.
        lossless: decoding gives exactly round(255 y) back: FFV1 in .mkv (with `bit_depth` 16, round(65535 y)
            too), RGB H.264 in the others. `crf` and `codec` then do not count.
        codec: "h264" or "h265".
        overwrite: replace an existing output; in an existing folder, PNG files of such a run only.

    Raises:
        InputError: at once if the output cannot be written this way; from the writer if it fails later.
    """
    path = Path(path)
    kind = output_kind(path)
    if names is None:
        names = like.names if like is not None else ()
    check_output(path, overwrite=overwrite, inputs=[like.path] if like is not None else (), names=names)
    size = (height, width)
    if kind == "video":
        coding = choose_coding(
            path,
            height=height,
            width=width,
            like=like,
            bit_depth=bit_depth,
            crf=crf,
            lossless=lossless,
            codec=codec,
        )
        return Writer(
            path, size, lambda: VideoSink(path, coding, height=height, width=width, fps=fps, like=like)
        )
    if bit_depth not in (8, 16):
        raise InputError(f"bit depth {bit_depth}: PNG has 8 or 16 bits; choose one of them")
    if kind == "folder":
        return Writer(path, size, lambda: _FolderSink(path, names, bit_depth))
    if len(names) > 1 or (like is not None and like.count != 1):
        raise _too_many(path)
    return Writer(path, size, lambda: _ImageSink(path, bit_depth))
