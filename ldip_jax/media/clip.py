"""A clip: frames that are decoded one at a time, and what is known about them; and parts of clips."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from jaxtyping import Float

from ldip_jax.media.clock import Clock
from ldip_jax.media.color import Color
from ldip_jax.media.frame_metadata import FrameMetadata


@dataclass(frozen=True)
class Clip:
    """Frames in order, float32 R'G'B' `h w 3` in [0, 1]; every iteration decodes them again, one by one.

    A context manager, for symmetry with writers; files are open only while frames are taken.

    Attributes:
        path: the file or folder.
        kind: "video", "images" (a folder, or one file of several pictures) or "image" (one still).
        height, width: of a frame, upright.
        decode: the frames from a number on. None stands for a damaged frame, if the clip was opened so.
        count: number of frames; None where it is not known beforehand.
        fps: frames per second, the mean where `times` are given; None for images without times.
        names: a PNG name for each frame: the inputs' own, or `00000000.png` ...; empty while `count` is None.
        notes: what was assumed or changed, one sentence each.
        color: how the file codes colour.
        has_audio: there is sound.
        sample_aspect: width of a pixel by its height.
        start: when the first frame shows, in seconds of the file's clock.
        times: seconds of each frame after the first one, where the frame rate varies; else None.
        hold: seconds for which the last frame is shown, if the file states it; None: as long as the others.
        clock: that of the file, made continuous; `start` and `times` are on it.
        frame_metadata: HDR and stereo metadata of its frames.
        assumptions: what is assumed because the file does not state it, one sentence each.
        track_range: seconds of the file's clock between which sound and subtitles belong to the clip; None:
            all.
    """

    path: Path
    kind: Literal["video", "images", "image"]
    height: int
    width: int
    count: int | None
    fps: Fraction | None
    names: list[str]
    notes: list[str]
    color: Color
    decode: Callable[[int], Iterator[np.ndarray | None]] = field(repr=False)
    has_audio: bool = False
    sample_aspect: Fraction = Fraction(1)
    start: Fraction = Fraction(0)
    times: list[Fraction] | None = field(default=None, repr=False)
    hold: Fraction | None = None
    clock: Clock = field(default_factory=Clock)
    frame_metadata: FrameMetadata = field(default_factory=FrameMetadata)
    assumptions: list[str] = field(default_factory=list)
    track_range: tuple[Fraction, Fraction | None] | None = None

    def seconds(self, number: int) -> Fraction:
        """When a frame is shown, in seconds after the first one; for the number after the last, when that
        one ends.

        The clip has a frame rate.
        """
        assert self.fps is not None
        if self.times is None:
            return number / self.fps
        if number < len(self.times):
            return self.times[number]
        return self.times[-1] + (self.hold or 1 / self.fps)

    def frames(self) -> Iterator[Float[np.ndarray, "h w 3"]]:
        """The frames, from the first one.

        Raises:
            InputError: a frame is damaged, or missing; the message names it.
        """
        for frame in self.decode(0):
            assert frame is not None, "only lenient clips have gaps"
            yield frame

    def __iter__(self) -> Iterator[Float[np.ndarray, "h w 3"]]:
        return self.frames()

    def __enter__(self) -> "Clip":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def cut_clip(clip: Clip, first: int, stop: int | None) -> Clip:
    """The part of a clip from frame `first` on, up to but not including `stop`; None: up to the end.

    Names of images stay. If the clip's length is not known, neither is that of the part.
    """
    if first == 0 and stop in (None, clip.count):
        return clip
    count = clip.count if stop is None else stop
    start, times, hold, track_range = clip.start, None, clip.hold, None
    if clip.fps is not None:
        start = clip.start + clip.seconds(first)
        early = count is not None and count != clip.count
        track_range = start, clip.start + clip.seconds(count) if count is not None and early else None
        if clip.times is not None:
            times = [seconds - clip.times[first] for seconds in clip.times[first:stop]]
        if count is not None and early:
            hold = None if times is None else clip.seconds(count) - clip.seconds(count - 1)
    return replace(
        clip,
        count=None if clip.count is None or count is None else count - first,
        names=clip.names[first:stop],
        decode=lambda begin: islice(
            clip.decode(first + begin), None if count is None else max(0, count - first - begin)
        ),
        start=start,
        times=times,
        hold=hold,
        track_range=track_range,
    )
