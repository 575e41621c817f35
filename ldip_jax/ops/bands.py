"""Splits a map into bands of rows, so that the memory of a chain of layers does not grow with the frame."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Shaped


class Bands(NamedTuple):
    """Equal bands that cover the rows of a map.

    Attributes:
        height: rows of the map.
        rows: rows that each band computes.
        halo: further rows read on either side, as many as the chain's convolutions need.
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
        """The first row that a band reads, and the first row that it computes.

        A band never extends beyond the frame. At the frame's edges it is moved inwards, so that a layer's
        zero padding is where the frame ends; the last band may compute some rows a second time.
        """
        first = jnp.minimum(index * self.rows, self.height - self.rows)
        return jnp.clip(first - self.halo, 0, self.height - self.read), first


def plan_bands(
    height: int, width: int, pixels: int | None, halo: int = 0, multiple: int = 1, halos: int = 8
) -> Bands | None:
    """Bands of about `pixels` pixels, whose rows are a multiple of `multiple`; None if one band is enough.

    A band has at least `halos` times as many rows as its halo, because halos are computed twice.
    """
    if pixels is None or height * width <= pixels:
        return None
    units = -(-height // multiple)
    most = max(pixels // (width * multiple), -(-halos * halo // multiple), 1)
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
    """The rows that band `index` contributes, from the result for all the rows that it read."""
    read, first = bands.starts(index)
    return lax.dynamic_slice_in_dim(y, (first - read) * scale, bands.rows * scale, axis=1)


def join_bands(y: Shaped[Array, "n b R W c"], bands: Bands, scale: int = 1) -> Shaped[Array, "b H W c"]:
    """Join all bands into a map."""
    n, b, rows, width, channels = y.shape
    whole = jnp.moveaxis(y, 0, 1).reshape(b, n * rows, width, channels)
    excess = n * rows - bands.height * scale
    if not excess:
        return whole
    # The last band was moved inwards: its first rows repeat the end of the previous one.
    head = (n - 1) * rows
    return jnp.concatenate([whole[:, :head], whole[:, head + excess :]], axis=1)


def fill_bands(one: Callable[[Int[Array, ""]], Any], bands: Bands) -> Any:
    """Maps of all rows, `b h _ _`, from their bands.

    Bands are written in place: joined afterwards, they would be in memory twice.

    Args:
        one: from a band's index to its rows of each map, `b rows _ _`.
    """
    first = one(jnp.zeros((), jnp.int32))
    if bands.count == 1:
        return first

    def allocate(part: Array) -> Array:
        # From the first band, so that the compiler does not hold a map before it can be filled.
        shape = (part.shape[0], bands.height, *part.shape[2:])
        return lax.dynamic_update_slice(jnp.broadcast_to(part[:1, :1, :1, :1], shape), part, (0, 0, 0, 0))

    def write(whole: Any, index: Int[Array, ""]) -> tuple[Any, None]:
        row = bands.starts(index)[1]
        written = jax.tree.map(
            lambda x, part: lax.dynamic_update_slice_in_dim(x, part, row, axis=1), whole, one(index)
        )
        return written, None

    return lax.scan(write, jax.tree.map(allocate, first), jnp.arange(1, bands.count))[0]


def fill_rows(
    band: Callable[[Int[Array, "r"]], Any], size: tuple[int, int], pixels: int | None, halo: int = 0
) -> Any:
    """Maps of `size` (height, width), from a function that computes some of their rows, band by band.

    Args:
        band: from the numbers of consecutive rows to these rows of each map, `b r _ _`.
        pixels: pixels per band; None for whole maps.
        halo: rows on either side that a band computes besides its own.
    """
    bands = plan_bands(*size, pixels, halo) or Bands(size[0], size[0], 0)
    return fill_bands(lambda index: band(bands.starts(index)[1] + jnp.arange(bands.rows)), bands)


def compute_band(
    chain: Callable[..., Float[Array, "b _ w _"]],
    maps: tuple[Shaped[Array, "b h _ _"], ...],
    bands: Bands,
    index: Int[Array, ""] | int,
) -> Float[Array, "b r w _"]:
    """The rows that band `index` contributes to `chain(*maps)`; see `map_bands`."""
    index = jnp.asarray(index)
    return crop_band(chain(*(read_band(x, bands, index) for x in maps)), bands, index)


def map_bands(
    chain: Callable[..., Float[Array, "b _ w _"]],
    maps: tuple[Shaped[Array, "b h w _"], ...],
    pixels: int | None,
    halo: int,
) -> Float[Array, "b h w _"]:
    """`chain(*maps)`, computed band by band; the result equals that of whole maps. For chains without layers.

    Args:
        chain: from maps of one height to a map of that height; an output row must not depend on rows further
            away than `halo`.
        pixels: pixels per band; None for whole maps.
    """
    height, width = maps[0].shape[1:3]
    bands = plan_bands(height, width, pixels, halo)
    if bands is None:
        return chain(*maps)

    return fill_bands(lambda index: compute_band(chain, maps, bands, index), bands)


def sum_bands(
    chain: Callable[..., Float[Array, "b _ w c"]],
    maps: tuple[Shaped[Array, "b h w _"], ...],
    pixels: int | None,
    halo: int,
) -> Float[Array, "c"]:
    """The sum of `chain(*maps)` over all pixels; arguments as for `map_bands`."""
    height, width = maps[0].shape[1:3]
    bands = plan_bands(height, width, pixels, halo) or Bands(height, height, 0)

    def one(index: Int[Array, ""]) -> Array:
        values = compute_band(chain, maps, bands, index)
        # The last band may repeat rows of the one before.
        is_new = bands.starts(index)[1] + jnp.arange(bands.rows) >= index * bands.rows
        return jnp.sum(jnp.where(is_new[None, :, None, None], values, 0.0), axis=(0, 1, 2))

    return jnp.sum(lax.map(one, jnp.arange(bands.count)), axis=0)
