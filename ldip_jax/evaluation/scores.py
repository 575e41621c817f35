"""Scores of two clips frame by frame, and their averages, for `ldip compare` and for reports."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from ldip_jax.errors import InputError
from ldip_jax.media.clip import Clip

SCORES = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "lpips_alex")
"""The scores of a frame and of a clip; None means "not computed"."""

HIGHEST_PSNR = 100.0
"""The highest PSNR reported, in dB, also for equal frames (infinite), so that averages stay finite."""

Scores = dict[str, float | None]
Frame = Float[np.ndarray, "h w 3"]
Distance = Callable[[Frame, Frame], float | None]


def score_frame(a: Frame, b: Frame, lpips: Distance | None = None) -> Scores:
    """All of `SCORES` for a pair of frames of one size; PSNR is at most `HIGHEST_PSNR`.

    Args:
        lpips: computes LPIPS (see `load_lpips`); None: LPIPS is not computed.
    """
    from ldip_jax.evaluation.metrics import frame_metrics

    scores: Scores = dict.fromkeys(SCORES)
    for key, value in frame_metrics(a, b).items():
        scores[key] = min(value, HIGHEST_PSNR) if value is not None and key.startswith("psnr") else value
    scores["lpips_alex"] = lpips(a, b) if lpips is not None else None
    return scores


def average(frames: Sequence[Mapping[str, Any]], keys: Sequence[str] = SCORES) -> Scores:
    """The mean of each score over frames; None if a frame lacks it or there are no frames."""
    means: Scores = {}
    for key in keys:
        values = [frame.get(key) for frame in frames]
        known = [value for value in values if value is not None]
        means[key] = sum(known) / len(known) if known and len(known) == len(values) else None
    return means


def score_frames(a: Iterable[Frame], b: Iterable[Frame], lpips: Distance | None = None) -> list[Scores]:
    """Scores of frames in memory.

    Raises:
        ValueError: the numbers or sizes of frames differ.
    """
    return [score_frame(x, y, lpips) for x, y in zip(a, b, strict=True)]


def score_clips(a: Clip, b: Clip, lpips: Distance | None = None) -> Iterator[Scores]:
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
