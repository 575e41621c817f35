"""Sampling a map at real-valued places, bilinear, bicubic or nearest, as gathers from a flat table.

Coordinates are absolute, (x, y), in pixels of the sampled map; pixel centres are at integers 0..W-1 and
0..H-1. They are always float32, because bfloat16 loses whole pixels above 256.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def pixel_grid(height: int, width: int) -> Float[Array, "{height} {width} 2"]:
    """The (x, y) coordinates of every pixel centre."""
    return row_places(jnp.arange(height), width)


def row_places(rows: Int[Array, "r"], width: int) -> Float[Array, "r {width} 2"]:
    """The (x, y) coordinates of the pixel centres in some rows."""
    x, y = jnp.meshgrid(jnp.arange(width, dtype=jnp.float32), rows.astype(jnp.float32))
    return jnp.stack([x, y], axis=-1)


def _table(x: Array) -> tuple[Array, Array]:
    """All pixels of a batch as one `(b h w) c` table, and the index at which each image begins."""
    b, h, w, c = x.shape
    return x.reshape(b * h * w, c), (jnp.arange(b, dtype=jnp.int32) * (h * w))[:, None, None]


def at(
    x: Float[Array, "b h w c"], xi: Int[Array, "b H W"], yi: Int[Array, "b H W"]
) -> Float[Array, "b H W c"]:
    """Values of `x` at whole pixels; edges repeat."""
    h, w = x.shape[1:3]
    table, start = _table(x)
    index = start + jnp.clip(yi, 0, h - 1) * w + jnp.clip(xi, 0, w - 1)
    return jnp.take(table, index, axis=0, mode="clip")


def cell(
    coords: Float[Array, "b H W 2"], size: tuple[int, int]
) -> tuple[Int[Array, "b H W"], Int[Array, "b H W"], Float[Array, "b H W 2"]]:
    """The pixel above and left of each place: its x, its y, and the distance (x, y) to it, within [0, 1).

    For places far outside a map of `size` (height, width), the pixel is clamped so that it fits int32; it is
    still outside.
    """
    corner = jnp.floor(coords)
    limit = jnp.array([[[[size[1], size[0]]]]], jnp.float32)
    xi, yi = jnp.moveaxis(jnp.clip(corner, -2.0, limit).astype(jnp.int32), -1, 0)
    return xi, yi, coords - corner


@partial(jax.jit, static_argnames=("padding", "dtype"))
def bilinear(
    x: Float[Array, "b h w c"], coords: Float[Array, "b H W 2"], padding: str = "zeros", dtype: Any = None
) -> Float[Array, "b H W c"]:
    """Bilinear samples of `x`; equals torch `grid_sample(align_corners=True)`.

    Args:
        x: maps to sample.
        coords: places in pixels of `x`.
        padding: "zeros": neighbours outside the map count as 0; "border": places are clamped to the map.
        dtype: type of the samples, in which they are interpolated; by default that of `x`.
    """
    h, w = x.shape[1:3]
    dtype = dtype or x.dtype
    coords = coords.astype(jnp.float32)
    if padding == "border":
        coords = jnp.clip(coords, 0.0, jnp.array([[[[w - 1, h - 1]]]], jnp.float32))
    elif padding != "zeros":
        raise ValueError(f"padding must be 'zeros' or 'border', not {padding!r}")
    x0, y0, fraction = cell(coords, (h, w))
    fx, fy = jnp.moveaxis(fraction, -1, 0)
    out = 0.0
    for dy, wy in ((0, 1.0 - fy), (1, fy)):
        for dx, wx in ((0, 1.0 - fx), (1, fx)):
            xi, yi = x0 + dx, y0 + dy
            inside = (xi >= 0) & (xi < w) & (yi >= 0) & (yi < h)
            weight = jnp.where(inside, wx * wy, 0.0).astype(dtype)
            out = out + at(x, xi, yi).astype(dtype) * weight[..., None]
    return out


def flow_warp(
    x: Float[Array, "b h w c"], flow: Float[Array, "b h w 2"], padding: str = "zeros"
) -> Float[Array, "b h w c"]:
    """`bilinear` at each pixel's own place plus `flow` (x, y displacement in pixels)."""
    return bilinear(x, pixel_grid(*x.shape[1:3])[None] + flow.astype(jnp.float32), padding)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _take_rows(table: Array, index: Array, rows: int) -> Array:
    if table.dtype.itemsize != 2:
        return jnp.take(table, index, axis=0, mode="clip")
    # Read as integers: on a CPU, XLA would first convert a whole table of 16-bit floats to float32.
    bits = jax.lax.bitcast_convert_type(table, jnp.uint16)
    return jax.lax.bitcast_convert_type(jnp.take(bits, index, axis=0, mode="clip"), table.dtype)


def _take_rows_fwd(table, index, rows):
    return _take_rows(table, index, rows), (index, jnp.zeros((0,), table.dtype))


def _take_rows_bwd(rows, saved, g):
    index, like = saved
    # Many pixels may read one row, so their sum is float32 whatever the compute type.
    total = jnp.zeros((rows, g.shape[-1]), jnp.float32).at[index].add(g.astype(jnp.float32), mode="drop")
    return total.astype(like.dtype), None


_take_rows.defvjp(_take_rows_fwd, _take_rows_bwd)


def keys_weight(distance: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Keys' cubic kernel (a = -0.5) at non-negative distances in pixels."""
    near = (1.5 * distance - 2.5) * distance**2 + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return jnp.where(distance <= 1.0, near, jnp.where(distance < 2.0, far, 0.0))


@partial(jax.jit, static_argnames="dtype")
def bicubic(
    x: Float[Array, "b h w c"], coords: Float[Array, "b H W 2"], dtype: Any = None
) -> Float[Array, "b H W c"]:
    """Bicubic samples (a = -0.5) of `x` at places in pixels of `x`; edges repeat.

    Gradients reach only `x`, and are summed in float32.

    Args:
        x: maps to sample.
        coords: places in pixels of `x`.
        dtype: type of the samples, in which they are interpolated; by default that of `x`.
    """
    h, w = x.shape[1:3]
    dtype = dtype or x.dtype
    coords = jax.lax.stop_gradient(coords.astype(jnp.float32))
    x0, y0, fraction = cell(coords, (h, w))
    table, start = _table(x)
    out = jnp.zeros((), dtype)
    for dy in range(-1, 3):
        rows = start + jnp.clip(y0 + dy, 0, h - 1) * w
        wy = keys_weight(jnp.abs(fraction[..., 1] - dy))
        for dx in range(-1, 3):
            values: Array = _take_rows(table, rows + jnp.clip(x0 + dx, 0, w - 1), table.shape[0])
            weight = wy * keys_weight(jnp.abs(fraction[..., 0] - dx))
            out = out + values.astype(dtype) * weight[..., None].astype(dtype)
    return out


@jax.jit
def nearest(
    x: Float[Array, "b h w c"], coords: Float[Array, "b H W 2"], size: Int[Array, "b 2"] | None = None
) -> tuple[Float[Array, "b H W c"], Float[Array, "b H W 2"], Float[Array, "b H W 1"]]:
    """Nearest samples, the remaining offsets, and whether the places lie inside (paper, section 7).

    Ties round half to even, as in torch. A place is outside if its rounded place lies outside the map;
    values and offsets are 0 there. Gradients reach only `x`, and are summed in float32.

    Args:
        x: maps to sample.
        coords: places in pixels of `x`.
        size: true (height, width) of each map if `x` is a larger canvas; places beyond it are outside.

    Returns:
        values: `x` at the rounded place.
        offset: exact place minus rounded place, (x, y) in pixels of `x`, each within [-0.5, 0.5].
        inside: 1.0 inside, 0.0 outside.
    """
    h, w = x.shape[1:3]
    coords = jax.lax.stop_gradient(coords.astype(jnp.float32))
    centre = jnp.round(coords)
    limit = jnp.array([[[[w - 1, h - 1]]]], jnp.float32)
    last = limit if size is None else (size[:, None, None, ::-1] - 1).astype(jnp.float32)
    within = jnp.all((centre >= 0) & (centre <= last), axis=-1, keepdims=True)
    xi, yi = jnp.moveaxis(jnp.clip(centre, 0.0, limit).astype(jnp.int32), -1, 0)
    table, start = _table(x)
    values: Array = _take_rows(table, start + yi * w + xi, table.shape[0])
    return (
        jnp.where(within, values, jnp.zeros((), x.dtype)),
        jnp.where(within, coords - centre, 0.0),
        within.astype(jnp.float32),
    )


def inside(coords: Float[Array, "b h w 2"], size: Float[Array, "2"]) -> Float[Array, "b h w 1"]:
    """1.0 where the place (x, y), rounded, is a pixel of a map of `size` = (width, height), else 0.0."""
    place = jnp.round(coords)
    within = (place >= 0.0) & (place <= size[None, None, None] - 1.0)
    return jnp.all(within, axis=-1, keepdims=True).astype(jnp.float32)


def forward_backward_confidence(
    forward: Float[Array, "b h w 2"], backward: Float[Array, "b h w 2"], sigma: float
) -> Float[Array, "b h w 1"]:
    """exp(-|f(x) + b(x + f(x))|^2 / (2 sigma^2)), in [0, 1]; 0 where x + f(x) lies outside.

    Args:
        forward, backward: flows in pixels, (x, y), between two images of one size; `backward` is sampled
            bilinearly.
        sigma: error in pixels that is still trusted.
    """
    h, w = forward.shape[1:3]
    target = pixel_grid(h, w)[None] + forward
    error = forward + bilinear(backward, target, padding="border")
    squared = jnp.sum(jnp.square(error), axis=-1, keepdims=True)
    return jnp.exp(-squared / (2.0 * sigma**2)) * inside(target, jnp.array([w, h], jnp.float32))
