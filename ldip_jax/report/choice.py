"""Which frames and which places a report shows."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from ldip_jax.ops.box import box_sums
from ldip_jax.report.content import Crop


def shown_frames(count: int, most: int = 8) -> list[int]:
    """At most `most` of `count` frame numbers, evenly spread, first and last included."""
    return sorted({round(index) for index in np.linspace(0, count - 1, min(count, most))})


def choose_crops(
    images: Sequence[UInt8[np.ndarray, "h w 3"]], frame: int, count: int = 2, side: int = 64
) -> list[Crop]:
    """Up to `count` squares, apart from one another, where versions of one frame differ most.

    Where all versions are equal the squares with the strongest edges are taken.

    Args:
        images: the frame as each method gives it, of one size.
        frame: its number among the shown frames, passed on to the result.
        side: in pixels; smaller where the frame is.
    """
    grey = [image.mean(axis=2) for image in images]
    energy = np.max(grey, axis=0) - np.min(grey, axis=0)
    if not energy.any():
        padded = np.pad(grey[0], ((0, 1), (0, 1)), "edge")
        energy = np.abs(np.diff(padded, axis=0))[:, :-1] + np.abs(np.diff(padded, axis=1))[:-1]
    h, w = energy.shape
    side = min(side, h, w)
    sums = box_sums(energy, (side, side))
    crops = []
    while len(crops) < count and (sums > -1).any():
        y, x = (int(index) for index in np.unravel_index(np.argmax(sums), sums.shape))
        crops.append(Crop(frame, x, y, side))
        sums[max(0, y - side) : y + side, max(0, x - side) : x + side] = -1
    return crops
