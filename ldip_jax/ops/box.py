"""Sums over windows of any size, by a summed-area table."""

import numpy as np
from jaxtyping import Float


def box_sums(values: Float[np.ndarray, "_ _"], size: tuple[int, int]) -> Float[np.ndarray, "_ _"]:
    """Sums over all windows of `size` (height, width), indexed by their upper left corners.

    Pass float64, because each sum is a difference of large numbers.
    """
    sums = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    h, w = size
    return sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
