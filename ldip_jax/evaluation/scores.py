"""Scores of two clips frame by frame, and their averages, for `ldip compare` and for reports."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float

from ldip_jax.errors import InputError
from ldip_jax.media.clip import Clip

HIGHEST_PSNR = 100.0
"""The highest PSNR reported, in dB, also for equal frames (infinite), so that averages stay finite."""

SCORES = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "lpips_alex")
"""The scores that are always computed, if frames are large enough; fields of `ClipScore`."""

Frame = Float[np.ndarray, "h w 3"]
Distance = Callable[[Frame, Frame], float | None]


@dataclass(frozen=True)
class ClipScore:
    """The scores of a frame, or their means over frames or clips; None: not computed.

    Attributes:
        psnr_y, psnr_rgb: PSNR of the luma and of RGB, in dB, at most `HIGHEST_PSNR`.
        ssim_y, ssim_rgb: SSIM of the luma and of RGB, at most 1.
        lpips_alex: LPIPS v0.1 on AlexNet; lower is closer.
        psnr, ssim: by the convention of an evaluation, if it is none of the above.
        tof: tOF, in pixels; lower is closer.
    """

    psnr_y: float | None = None
    ssim_y: float | None = None
    psnr_rgb: float | None = None
    ssim_rgb: float | None = None
    lpips_alex: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    tof: float | None = None

    def named(self, names: Mapping[str, str]) -> dict[str, float | None]:
        """Scores by the names that files and tables use; see `score_names`."""
        return {name: getattr(self, field) for name, field in names.items()}


ALWAYS = {name: name for name in SCORES}
"""The names of `SCORES`; see `ClipScore.named`."""
# Conventions whose scores are always computed, with the fields of their PSNR and SSIM.
_COVERED = {"basicsr-y": ("psnr_y", "ssim_y"), "basicsr-rgb": ("psnr_rgb", "ssim_rgb")}


def is_always_computed(convention: str) -> bool:
    """Whether PSNR and SSIM by this convention are among `SCORES`."""
    return convention in _COVERED


def primary_names(convention: str) -> tuple[str, str]:
    """The names of PSNR and SSIM by the convention that the data set's tables follow."""
    return _COVERED.get(convention, (f"psnr_{convention}", f"ssim_{convention}"))


def score_names(convention: str, *, temporal: bool) -> dict[str, str]:
    """The fields of a `ClipScore` that an evaluation computes, by their names in files and tables."""
    psnr, ssim = primary_names(convention)
    names = ALWAYS if convention in _COVERED else {**ALWAYS, psnr: "psnr", ssim: "ssim"}
    return {**names, "tof": "tof"} if temporal else names


def score_frame(a: Frame, b: Frame, lpips: Distance | None = None) -> ClipScore:
    """All of `SCORES` for a pair of frames of one size; PSNR is at most `HIGHEST_PSNR`.

    Args:
        lpips: computes LPIPS (see `load_lpips`); None: LPIPS is not computed.
    """
    from ldip_jax.evaluation.metrics import frame_metrics

    scores = {
        name: min(value, HIGHEST_PSNR) if value is not None and name.startswith("psnr") else value
        for name, value in frame_metrics(a, b).items()
    }
    return ClipScore(**scores, lpips_alex=lpips(a, b) if lpips is not None else None)


def average(scores: Sequence[ClipScore]) -> ClipScore:
    """The mean of each score; None if one lacks it or there are none."""
    means = {}
    for field in fields(ClipScore):
        values = [getattr(score, field.name) for score in scores]
        known = [value for value in values if value is not None]
        means[field.name] = sum(known) / len(known) if known and len(known) == len(values) else None
    return ClipScore(**means)


def score_frames(a: Iterable[Frame], b: Iterable[Frame], lpips: Distance | None = None) -> list[ClipScore]:
    """Scores of frames in memory.

    Raises:
        ValueError: the numbers or sizes of frames differ.
    """
    return [score_frame(x, y, lpips) for x, y in zip(a, b, strict=True)]


def score_clips(a: Clip, b: Clip, lpips: Distance | None = None) -> Iterator[ClipScore]:
    """Scores of each pair of frames, read in lockstep: only one frame of each clip is held at a time.

    Raises:
        InputError: see `check_clips`; or one clip ends before the other, or both have no frames.
    """
    check_clips(a, b)
    frames_a, frames_b = iter(a), iter(b)
    done = 0
    while True:
        frame_a, frame_b = next(frames_a, None), next(frames_b, None)
        if frame_a is None or frame_b is None:
            break
        yield score_frame(frame_a, frame_b, lpips)
        done += 1
    if frame_a is not None or frame_b is not None:
        counts = [done if frame is None else f"more than {done}" for frame in (frame_a, frame_b)]
        raise _different_lengths(a, counts[0], b, counts[1])
    if done == 0:
        raise InputError(f"{a.path} and {b.path} hold no frames to compare")


def check_clips(a: Clip, b: Clip) -> None:
    """Check what is known before any frame is read.

    Raises:
        InputError: the clips differ in frame size, or in the number of frames as far as that is known.
    """
    if (a.height, a.width) != (b.height, b.width):
        sizes = " and ".join(f"{clip.path} is {clip.width}x{clip.height}" for clip in (a, b))
        raise InputError(f"{sizes}; only clips of one frame size can be compared")
    if a.count is not None and b.count is not None and a.count != b.count:
        raise _different_lengths(a, a.count, b, b.count)


def _different_lengths(a: Clip, count_a: int | str, b: Clip, count_b: int | str) -> InputError:
    return InputError(
        f"{a.path} has {count_a} and {b.path} {count_b} frames; only clips of one length can be compared"
    )
