"""Cutting a clip of any length into windows of frames that overlap, as it is read."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

# What a window may hold in memory between the passes, in bytes, and the frames that windows share on
# either side. Constants, not a share of this machine's memory: a clip comes out the same everywhere.
BUDGET = 4 * 2**30
OVERLAP = 6
SHORTEST, LONGEST = 3 * OVERLAP, 240


class Window(NamedTuple):
    """Frames of a clip that are processed together.

    Attributes:
        frames: float32 RGB in [0, 1].
        first: place of `frames[0]` in the clip.
        keep: the part of `frames` that this window answers for; the rest is context.
        last: whether the clip ends with it.
    """

    frames: list[Float[np.ndarray, "h w 3"]]
    first: int
    keep: range
    last: bool


def window_length(size: tuple[int, int], out: tuple[int, int], channels: int, *, refined: bool) -> int:
    """Frames per window, so that what is held stays within the budget.

    Args:
        size, out: (height, width) of LR frames and of HR features.
        channels: LR features that the backbone holds of every frame.
        refined: whether LRRF runs, which keeps a bfloat16 HR residual and an HR image of every frame.
    """
    per_frame = size[0] * size[1] * channels * 4
    if refined:
        per_frame += out[0] * out[1] * (64 * 2 + 3 * 2)
    return min(max(BUDGET // per_frame, SHORTEST), LONGEST)


def windows(frames: Iterable[Any], length: int, overlap: int = OVERLAP) -> Iterator[Window]:
    """Windows of `length` frames, read as they are needed; the last may be shorter.

    Nothing is done to the frames: to plan the work, anything may stand for them.

    A frame next to a cut is seen by two windows and kept by the one that has `overlap` frames beyond it.
    """
    held: list[np.ndarray] = []
    first = begin = 0
    for frame in frames:
        if len(held) == length:
            end = length - overlap
            yield Window(list(held), first, range(begin, end), last=False)
            del held[: end - overlap]
            first, begin = first + end - overlap, overlap
        held.append(frame)
    if held:
        yield Window(held, first, range(begin, len(held)), last=True)
