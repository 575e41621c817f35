"""The HR sampling grid of arbitrary scales: for every HR pixel its nearest LR pixel and what is left over."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class Axis(NamedTuple):
    """One axis of a grid of N HR pixels over LR pixels.

    Attributes:
        index: nearest LR pixel of every HR pixel; may lie outside of a crop's LR window.
        offset: exact place minus `index`, in LR pixels, within [-0.5, 0.5].
        pixel: size of an HR pixel in LR pixels.
    """

    index: Int[Array, "N"]
    offset: Float[Array, "N"]
    pixel: Float[Array, ""]


class Grid(NamedTuple):
    """Rows and columns of an HR image over an LR one. Arrays all: one program serves every scale."""

    rows: Axis
    columns: Axis


def whole_axis(n: int, N: int) -> Axis:
    """All N HR pixels over n LR pixels, in integers, since ties are common (half of all at x1.5)."""
    place = (2 * np.arange(N, dtype=np.int64) + 1) * n
    index = place // (2 * N)
    offset = (place - (2 * index + 1) * N) / (2 * N)
    return Axis(
        jnp.asarray(index, jnp.int32), jnp.asarray(offset, jnp.float32), jnp.asarray(n / N, jnp.float32)
    )


def whole_grid(size: tuple[int, int], out: tuple[int, int]) -> Grid:
    """The grid of a whole frame: LR `size` (height, width) to HR `out`."""
    return Grid(whole_axis(size[0], out[0]), whole_axis(size[1], out[1]))


def crop_axis(origin: Float[Array, ""], step: Float[Array, ""], N: int) -> Axis:
    """N HR pixels from LR place `origin` on, `step` LR pixels apart."""
    place = origin + step * jnp.arange(N, dtype=jnp.float32)
    index = jnp.floor(place + 0.5)
    return Axis(index.astype(jnp.int32), place - index, jnp.asarray(step, jnp.float32))


def sample_nearest(x: Float[Array, "b h w c"], grid: Grid) -> Float[Array, "b H W c"]:
    """The nearest LR value of every HR pixel, edges held."""
    x = jnp.take(x, jnp.clip(grid.rows.index, 0, x.shape[1] - 1), axis=1, mode="clip")
    return jnp.take(x, jnp.clip(grid.columns.index, 0, x.shape[2] - 1), axis=2, mode="clip")


def _cubic_taps(axis: Axis) -> tuple[Int[Array, "N 4"], Float[Array, "N 4"]]:
    """Four neighbours of every place and Keys' weights (a = -0.5)."""
    low = jnp.where(axis.offset < 0, axis.index - 1, axis.index)
    fraction = jnp.where(axis.offset < 0, axis.offset + 1.0, axis.offset)
    tap = jnp.arange(-1, 3)
    apart = jnp.abs(fraction[:, None] - tap[None].astype(jnp.float32))
    near = (1.5 * apart - 2.5) * apart**2 + 1.0
    far = ((-0.5 * apart + 2.5) * apart - 4.0) * apart + 2.0
    return low[:, None] + tap[None], jnp.where(apart <= 1.0, near, jnp.where(apart < 2.0, far, 0.0))


def _resample(x: Array, axis: Axis, dimension: int) -> Array:
    taps, weights = _cubic_taps(axis)
    shape = [1] * x.ndim
    shape[dimension] = -1

    def part(tap: int) -> Array:
        index = jnp.clip(taps[:, tap], 0, x.shape[dimension] - 1)
        return jnp.take(x, index, axis=dimension, mode="clip") * weights[:, tap].reshape(shape)

    return part(0) + part(1) + part(2) + part(3)


def sample_bicubic(x: Float[Array, "b h w c"], grid: Grid) -> Float[Array, "b H W c"]:
    """Bicubic (a = -0.5) values at the grid's places, edges held."""
    return _resample(_resample(x, grid.rows, 1), grid.columns, 2)


def grid_offsets(grid: Grid) -> Float[Array, "1 H W 2"]:
    """Offset (x, y) of every HR pixel, in LR pixels."""
    x, y = jnp.meshgrid(grid.columns.offset, grid.rows.offset)
    return jnp.stack([x, y], axis=-1)[None]
