"""The HR sampling grid for arbitrary scales: every HR pixel's nearest LR pixel, and the offset from it."""

from functools import reduce
from operator import add
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ldip_jax.ops.warp import keys_weight


class Axis(NamedTuple):
    """One axis of a grid of N HR pixels over LR pixels.

    Attributes:
        index: nearest LR pixel to every HR pixel; may lie outside a crop's LR window.
        offset: exact place minus `index`, in LR pixels, within [-0.5, 0.5].
        pixel: size of an HR pixel in LR pixels.
    """

    index: Int[Array, "N"]
    offset: Float[Array, "N"]
    pixel: Float[Array, ""]


class Grid(NamedTuple):
    """Rows and columns of an HR image over an LR one; all are arrays, so one program serves every scale."""

    rows: Axis
    columns: Axis


def whole_axis(n: int, N: int) -> Axis:
    """All N HR pixels over n LR pixels, in integer arithmetic, because ties are common (half at x1.5)."""
    place = (2 * np.arange(N, dtype=np.int64) + 1) * n
    index = place // (2 * N)
    offset = (place - (2 * index + 1) * N) / (2 * N)
    return Axis(
        jnp.asarray(index, jnp.int32), jnp.asarray(offset, jnp.float32), jnp.asarray(n / N, jnp.float32)
    )


def whole_grid(size: tuple[int, int], out: tuple[int, int]) -> Grid:
    """The grid of a whole frame: LR `size` (height, width) to HR `out`."""
    return Grid(whole_axis(size[0], out[0]), whole_axis(size[1], out[1]))


def align_corners_grid(size: tuple[int, int], out: tuple[int, int]) -> Grid:
    """As `whole_grid`, but the corner pixels' centres stay: place = index (n - 1) / (N - 1)."""

    def axis(n: int, N: int) -> Axis:
        pixel = (n - 1) / (N - 1) if N > 1 else 0.0
        place = np.arange(N) * pixel
        index = np.floor(place + 0.5)
        offset = jnp.asarray(place - index, jnp.float32)
        return Axis(jnp.asarray(index, jnp.int32), offset, jnp.asarray(pixel, jnp.float32))

    return Grid(axis(size[0], out[0]), axis(size[1], out[1]))


def rows_of(grid: Grid, rows: Int[Array, "r"]) -> Grid:
    """The grid of some rows of the HR image."""
    return grid._replace(rows=grid.rows._replace(index=grid.rows.index[rows], offset=grid.rows.offset[rows]))


def crop_axis(origin: Float[Array, ""], step: Float[Array, ""], N: int) -> Axis:
    """N HR pixels, `step` LR pixels apart, starting at the LR place `origin`."""
    place = origin + step * jnp.arange(N, dtype=jnp.float32)
    index = jnp.floor(place + 0.5)
    return Axis(index.astype(jnp.int32), place - index, jnp.asarray(step, jnp.float32))


def sample_nearest(x: Float[Array, "b h w c"], grid: Grid) -> Float[Array, "b H W c"]:
    """The LR value nearest to every HR pixel; edges repeat."""
    x = jnp.take(x, jnp.clip(grid.rows.index, 0, x.shape[1] - 1), axis=1, mode="clip")
    return jnp.take(x, jnp.clip(grid.columns.index, 0, x.shape[2] - 1), axis=2, mode="clip")


def _cell(axis: Axis) -> tuple[Int[Array, "N"], Float[Array, "N"]]:
    """The LR pixel before every place, and the distance of the place from it, within [0, 1)."""
    before = axis.offset < 0
    return jnp.where(before, axis.index - 1, axis.index), jnp.where(before, axis.offset + 1.0, axis.offset)


def _linear_taps(axis: Axis) -> tuple[Int[Array, "N 2"], Float[Array, "N 2"]]:
    """Two neighbours of every place and their weights."""
    low, fraction = _cell(axis)
    return low[:, None] + jnp.arange(2)[None], jnp.stack([1.0 - fraction, fraction], axis=1)


def _cubic_taps(axis: Axis) -> tuple[Int[Array, "N 4"], Float[Array, "N 4"]]:
    """Four neighbours of every place and Keys' weights (a = -0.5)."""
    low, fraction = _cell(axis)
    tap = jnp.arange(-1, 3)
    apart = jnp.abs(fraction[:, None] - tap[None].astype(jnp.float32))
    return low[:, None] + tap[None], keys_weight(apart)


def _resample(x: Array, taps: Int[Array, "N k"], weights: Float[Array, "N k"], dimension: int) -> Array:
    shape = [1] * x.ndim
    shape[dimension] = -1

    def part(tap: int) -> Array:
        index = jnp.clip(taps[:, tap], 0, x.shape[dimension] - 1)
        return jnp.take(x, index, axis=dimension, mode="clip") * weights[:, tap].reshape(shape)

    return reduce(add, map(part, range(taps.shape[1])))


@jax.jit
def sample_bicubic(x: Float[Array, "b h w c"], grid: Grid) -> Float[Array, "b H W c"]:
    """Bicubic (a = -0.5) values at the grid's places; edges repeat."""
    return _resample(_resample(x, *_cubic_taps(grid.rows), 1), *_cubic_taps(grid.columns), 2)


@jax.jit
def sample_bilinear(x: Float[Array, "b h w c"], grid: Grid) -> Float[Array, "b H W c"]:
    """Bilinear values at the grid's places; edges repeat. On a whole grid, half-pixel bilinear resizing."""
    return _resample(_resample(x, *_linear_taps(grid.rows), 1), *_linear_taps(grid.columns), 2)


def sample_flow(flow: Float[Array, "b h w 2"], grid: Grid) -> Float[Array, "b H W 2"]:
    """A flow at the grid's pixels, in HR pixels, float32.

    The flow of a crop is cut from that of the whole frame; the LR window may be larger than the crop and
    begin elsewhere. The sizes of whole frames do not need to be multiples of each other: a pixel's size is
    w / W by h / H, whatever scale was requested.

    Args:
        flow: (x, y) displacement in LR pixels, at the LR pixels to which the grid's `index` refers.
    """
    pixel = jnp.stack([grid.columns.pixel, grid.rows.pixel])
    return sample_bilinear(flow.astype(jnp.float32), grid) / pixel[None, None, None]


def grid_offsets(grid: Grid) -> Float[Array, "1 H W 2"]:
    """Offset (x, y) of every HR pixel, in LR pixels."""
    x, y = jnp.meshgrid(grid.columns.offset, grid.rows.offset)
    return jnp.stack([x, y], axis=-1)[None]
