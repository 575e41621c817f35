"""Attention windows of any proportion, and the regions that a rolled map brings together."""

import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Int


def split_windows(x: Float[Array, "b h w c"], window: tuple[int, int]) -> Float[Array, "n t c"]:
    """Windows of `window` = (rows, columns) pixels, which divide the map; tokens in reading order.

    The windows of one image follow each other in reading order: n = (image, row, column).
    """
    rows, columns = window
    return rearrange(x, "b (i y) (j x) c -> (b i j) (y x) c", y=rows, x=columns)


def merge_windows(
    x: Float[Array, "n t c"], window: tuple[int, int], size: tuple[int, int]
) -> Float[Array, "b h w c"]:
    """The inverse of `split_windows` for maps of `size` = (h, w)."""
    rows, columns = window
    return rearrange(
        x, "(b i j) (y x) c -> b (i y) (j x) c", y=rows, x=columns, i=size[0] // rows, j=size[1] // columns
    )


def shifted_regions(
    size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]
) -> Int[np.ndarray, "n t"]:
    """Region of each token of one image after the map is rolled by -shift.

    Rolling brings opposite borders of the map into the same window; only there do the regions differ,
    and tokens of different regions are no neighbours.
    """
    bands = []
    for n, w, s in zip(size, window, shift, strict=True):
        place = np.arange(n)
        bands.append((place >= n - w).astype(np.int32) + (place >= n - s))
    regions = 3 * bands[0][:, None] + bands[1]
    return rearrange(regions, "(i y) (j x) -> (i j) (y x)", y=window[0], x=window[1])
