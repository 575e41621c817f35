"""Writes frames as PNG files or as segments of a video, in the run's folder until all are complete."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from av import VideoFrame
from jaxtyping import Float

from ldip_jax.media.clip import Clip
from ldip_jax.media.coding import Coding
from ldip_jax.media.encoder import (
    Encoder,
    PendingFrames,
    checksum_of,
    read_pending_frames,
    read_segment,
    write_segment,
)
from ldip_jax.media.frames import FromRgb
from ldip_jax.media.images import write_png
from ldip_jax.media.muxer import Muxer
from ldip_jax.media.outputs import is_replaceable
from ldip_jax.media.run_folder import RunFolder, Step, sync

# A segment of video has at least this many frames, if there are as many: each begins with a costly key frame.
MIN_SEGMENT = 48


class Sink(ABC):
    """Takes frames step by step.

    Attributes:
        notes: what was decided.
    """

    notes: list[str]

    @abstractmethod
    def count_intact(self, steps: Sequence[Step]) -> int:
        """How many steps of an earlier run still have their files unchanged."""

    @abstractmethod
    def start(self) -> None:
        """Continue after the folder's steps."""

    def begin(self, count: int) -> None:  # noqa: B027
        """Begin a step of `count` frames."""

    @abstractmethod
    def write(self, rgb: Float[np.ndarray, "h w 3"], number: int) -> None:
        """Frame `number` of the clip."""

    @abstractmethod
    def end(self) -> dict[str, Any]:
        """Flush the step's frames to disk; returns its `Step.data`."""

    def remove_superfluous(self) -> None:  # noqa: B027
        """The step is recorded; remove files that are no longer needed."""

    def finish(self) -> None:  # noqa: B027
        """Complete the output in the folder."""

    @abstractmethod
    def place(self, path: Path) -> None:
        """Move the output to its place, or complete an interrupted move."""

    def close_files(self) -> None:  # noqa: B027
        """Close all files."""


class ImageSink(Sink):
    """PNG files: one, or a folder of them.

    Args:
        names: of the files, by the frames' numbers; further ones are `00000000.png` ...
        single: the output is one file.
    """

    def __init__(self, folder: RunFolder, names: Sequence[str], bit_depth: int, *, single: bool = False):
        self.notes = [f"PNG, {bit_depth} bits"]
        self._folder, self._names, self._bit_depth, self._single = folder, names, bit_depth, single
        self._frames = folder.path / "frames"

    def _name(self, number: int) -> str:
        return self._names[number] if number < len(self._names) else f"{number:08d}.png"

    def _names_of(self, steps: Sequence[Step]) -> set[str]:
        return {self._name(number) for step in steps for number in step.numbers}

    def count_intact(self, steps: Sequence[Step]) -> int:
        there = {path.name for path in self._frames.iterdir()} if self._frames.is_dir() else set()
        return next((i for i, step in enumerate(steps) if not self._names_of([step]) <= there), len(steps))

    def start(self) -> None:
        self._frames.mkdir(exist_ok=True)
        finished = self._names_of(self._folder.steps)
        for path in self._frames.iterdir():
            if path.name not in finished:
                path.unlink()

    def write(self, rgb: Float[np.ndarray, "h w 3"], number: int) -> None:
        write_png(self._frames / self._name(number), rgb, self._bit_depth)

    def end(self) -> dict[str, Any]:
        sync(self._frames)
        return {}

    def place(self, path: Path) -> None:
        if not self._frames.is_dir():
            return
        if self._single:
            for written in self._frames.iterdir():
                os.replace(written, os.path.realpath(path))
        elif not path.is_dir():
            os.rename(self._frames, path)
        else:
            # An existing folder stays what it is (it may be a mount); a new one appears by one renaming.
            written = self._names_of(self._folder.steps)
            for old in path.iterdir():
                if old.name not in written and is_replaceable(old, frozenset(self._names)):
                    old.unlink()
            for new in sorted(self._frames.iterdir()):
                os.replace(new, path / new.name)


class VideoSink(Sink):
    """A video file of segments that decode on their own.

    Args:
        path: the output, whose suffix decides the container.
        mux: makes the muxer that writes a file.
        keep: frames that wait for the rest of their segment are kept on disk, for a run that resumes.
    """

    def __init__(
        self,
        folder: RunFolder,
        path: Path,
        coding: Coding,
        *,
        height: int,
        width: int,
        source: Clip | None,
        make_muxer: Callable[[Path], Muxer],
        keep_pending: bool,
    ):
        self.notes: list[str] = []
        self._folder, self._coding, self._size, self._keep_pending = (
            folder,
            coding,
            (height, width),
            keep_pending,
        )
        self._source = source if source is not None and source.kind == "video" else None
        self._whole = folder.path / f"whole{path.suffix.lower()}"
        self._make_muxer = make_muxer
        self._muxer: Muxer | None = None
        self._convert = FromRgb(coding.color, coding.layout)
        # The open segment: its steps' pictures, and the numbers of its frames.
        self._encoder: Encoder | None = None
        self._numbers: list[int] = []
        self._first = self._count = 0
        self._pictures: PendingFrames | None = None
        self._pending_files: list[Path] = []
        self._superfluous: list[Path] = []
        # The last closed segment, which may be the last of all.
        self._pending: tuple[Path, list[int]] | None = None

    def _file(self, first: int, kind: str) -> Path:
        return self._folder.path / f"{first:08d}.{kind}"

    def count_intact(self, steps: Sequence[Step]) -> int:
        intact = 0
        for place, step in enumerate(steps):
            if "packets" in step.data:
                if checksum_of(self._file(step.data["segment"], "packets")) != step.data["packets"]:
                    return intact
                intact = place + 1
        for step in steps[intact:]:
            if checksum_of(self._file(step.first, "pictures")) != step.data.get("pictures"):
                break
            intact += 1
        return intact

    def start(self) -> None:
        self._muxer = self._make_muxer(self._whole)
        self.notes = self._muxer.notes
        waiting: list[Step] = []
        for step in self._folder.steps:
            waiting.append(step)
            if "packets" in step.data:
                numbers = [number for part in waiting for number in part.numbers]
                self._add(self._file(step.data["segment"], "packets"), numbers)
                self._count, waiting = step.stop, []
        for step in waiting:
            path = self._file(step.first, "pictures")
            for number, data in zip(step.numbers, read_pending_frames(path, len(step.numbers)), strict=True):
                self._encode(self._convert.from_bytes(data, *self._size), number)
            self._pending_files.append(path)

    def begin(self, count: int) -> None:
        if self._keep_pending and len(self._numbers) + count < MIN_SEGMENT:
            self._pictures = PendingFrames(self._file(self._folder.finished_frames, "pictures"))

    def write(self, rgb: Float[np.ndarray, "h w 3"], number: int) -> None:
        frame = self._convert(rgb)
        if self._pictures is not None:
            self._pictures.write(self._convert.to_bytes(frame))
        self._encode(frame, number)

    def _encode(self, frame: VideoFrame, number: int) -> None:
        if self._encoder is None:
            assert self._muxer is not None
            self._encoder = Encoder(self._coding, *self._size, self._muxer.fps, self._source)
            self._first, self._numbers = self._count, []
        self._encoder.encode(frame)
        self._numbers.append(number)
        self._count += 1

    def end(self) -> dict[str, Any]:
        if self._pictures is not None:
            checksum = self._pictures.finish()
            self._pictures = None
            self._pending_files.append(self._file(self._folder.finished_frames, "pictures"))
            return {"pictures": checksum}
        return self._close() if len(self._numbers) >= MIN_SEGMENT else {}

    def _close(self) -> dict[str, Any]:
        """End the open segment."""
        assert self._encoder is not None
        self._encoder.encode(None)
        path = self._file(self._first, "packets")
        checksum = write_segment(path, self._encoder)
        self._add(path, self._numbers)
        self._encoder, self._numbers = None, []
        self._superfluous, self._pending_files = self._pending_files, []
        return {"packets": checksum, "segment": self._first}

    def remove_superfluous(self) -> None:
        for path in self._superfluous:
            path.unlink(missing_ok=True)
        self._superfluous = []

    def _add(self, path: Path, numbers: list[int]) -> None:
        assert self._muxer is not None
        if self._pending is not None:
            self._muxer.add(read_segment(self._pending[0]), self._pending[1], last=False)
        self._pending = path, numbers

    def finish(self) -> None:
        assert self._muxer is not None
        if self._encoder is not None:
            self._close()
        assert self._pending is not None
        self._muxer.add(read_segment(self._pending[0]), self._pending[1], last=True)
        self._muxer.finish()
        with open(self._whole, "rb") as file:
            os.fsync(file.fileno())

    def place(self, path: Path) -> None:
        if self._whole.exists():
            os.replace(self._whole, os.path.realpath(path))

    def close_files(self) -> None:
        if self._pictures is not None:
            self._pictures.close()
        if self._muxer is not None:
            self._muxer.close()
