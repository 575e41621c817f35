"""Sums over windows by a summed-area table, whatever their size."""

import numpy as np
from jaxtyping import Float


def box_sums(values: Float[np.ndarray, "_ _"], size: tuple[int, int]) -> Float[np.ndarray, "_ _"]:
    """Sums over all windows of `size` (height, width), by their upper left corners.

    Sums are differences of large ones: give float64.
    """
    sums = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    h, w = size
    return sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
