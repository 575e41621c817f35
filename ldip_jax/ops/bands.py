"""Cutting a map into bands of rows, so that what a chain of layers holds does not grow with the frame."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Shaped


class Bands(NamedTuple):
    """A plan of equal bands that cover the rows of a map.

    Attributes:
        height: rows of the map.
        rows: rows that each band computes.
        halo: rows read on either side of them, as many as the chain's convolutions reach.
    """

    height: int
    rows: int
    halo: int

    @property
    def count(self) -> int:
        return -(-self.height // self.rows)

    @property
    def read(self) -> int:
        """Rows that each band reads."""
        return min(self.rows + 2 * self.halo, self.height)

    def starts(self, index: Int[Array, ""]) -> tuple[Int[Array, ""], Int[Array, ""]]:
        """First row read and first row computed of a band.

        A band never reaches over the frame: at its edges it is moved inwards instead, so that a layer's
        own zero padding falls where the frame ends, and the last band may compute rows once more.
        """
        first = jnp.minimum(index * self.rows, self.height - self.rows)
        return jnp.clip(first - self.halo, 0, self.height - self.read), first


def plan_bands(height: int, width: int, pixels: int | None, halo: int = 0, multiple: int = 1) -> Bands | None:
    """Bands of about `pixels` pixels, in rows of a `multiple`; None when one band is the whole map.

    A band has at least eight times the rows of its halo, which are computed twice.
    """
    if pixels is None or height * width <= pixels:
        return None
    units = -(-height // multiple)
    most = max(pixels // (width * multiple), -(-8 * halo // multiple), 1)
    count = -(-units // most)
    rows = -(-units // count) * multiple
    if rows + 2 * halo >= height:
        return None
    return Bands(height, rows, halo)


def read_band(x: Shaped[Array, "b h w c"], bands: Bands, index: Int[Array, ""]) -> Shaped[Array, "b r w c"]:
    """The rows that band `index` reads."""
    return lax.dynamic_slice_in_dim(x, bands.starts(index)[0], bands.read, axis=1)


def crop_band(
    y: Float[Array, "b r W c"], bands: Bands, index: Int[Array, ""], scale: int = 1
) -> Float[Array, "b R W c"]:
    """The rows that band `index` is there for, of what was computed from all it read."""
    read, first = bands.starts(index)
    return lax.dynamic_slice_in_dim(y, (first - read) * scale, bands.rows * scale, axis=1)


def join_bands(y: Float[Array, "n b R W c"], bands: Bands, scale: int = 1) -> Float[Array, "b H W c"]:
    """All bands put together again."""
    n, b, rows, width, channels = y.shape
    whole = jnp.moveaxis(y, 0, 1).reshape(b, n * rows, width, channels)
    excess = n * rows - bands.height * scale
    if not excess:
        return whole
    # The last band was moved inwards: its first rows repeat the end of the one before.
    head = (n - 1) * rows
    return jnp.concatenate([whole[:, :head], whole[:, head + excess :]], axis=1)
