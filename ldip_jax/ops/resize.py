"""Resizing of image and feature maps, `... h w c`, with the pixel conventions of the networks here.

Between sizes, a place x maps to (x + 0.5) W'/W - 0.5 (half-pixel centres) unless a name says otherwise.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.ops.bands import fill_rows
from ldip_jax.ops.grid import align_corners_grid, rows_of, sample_bilinear, whole_grid
from ldip_jax.ops.warp import keys_weight

# Pixels per band of rows.
BAND_PIXELS = 2**18


def _to_size(x: Array, size: tuple[int, int]) -> tuple[int, ...]:
    return (*x.shape[:-3], *size, x.shape[-1])


def resize_bilinear(x: Float[Array, "*b h w c"], size: tuple[int, int]) -> Float[Array, "*b H W c"]:
    """Half-pixel bilinear, never antialiased; torch `interpolate(mode="bilinear")`."""
    return jax.image.resize(x, _to_size(x, size), "linear", antialias=False)


def resize_large(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b H W c"]:
    """`resize_bilinear` for large maps, in bands of rows: what it holds besides the result is small."""
    if x.shape[1:3] == size:
        return x
    grid = whole_grid((x.shape[1], x.shape[2]), size)
    return fill_rows(lambda rows: sample_bilinear(x, rows_of(grid, rows)), size, BAND_PIXELS)


def resize_bicubic(
    x: Float[Array, "*b h w c"], size: tuple[int, int], antialias: bool = True
) -> Float[Array, "*b H W c"]:
    """Half-pixel bicubic (a = -0.5); by default, the kernel is stretched when reducing."""
    return jax.image.resize(x, _to_size(x, size), "cubic", antialias=antialias)


def resample_bicubic(
    x: Float[Array, "b h w c"], origin: Float[Array, "b 2"], step: Float[Array, "b 2"], size: tuple[int, int]
) -> Float[Array, "b H W c"]:
    """Bicubic (a = -0.5) values on a grid of each map, kernel stretched when reducing; edges repeat.

    Inside the map, the values are those of `resize_bicubic`; one program serves every scale.

    Args:
        origin: place (y, x) of the first value, in pixels of `x`.
        step: pixels of `x` from one value to the next, (y, x).
        size: (H, W), the number of values.
    """

    def weights(origin: Array, step: Array, n_in: int, n_out: int) -> Float[Array, "b {n_out} {n_in}"]:
        place = origin[:, None] + step[:, None] * jnp.arange(n_out)[None]
        place = jnp.clip(place, 0.0, n_in - 1.0)[..., None]
        apart = jnp.abs(jnp.arange(n_in)[None, None] - place) / jnp.maximum(step, 1.0)[:, None, None]
        found = keys_weight(apart)
        return found / found.sum(axis=-1, keepdims=True)

    rows, columns = (weights(origin[:, i], step[:, i], x.shape[1 + i], size[i]) for i in (0, 1))
    highest = jax.lax.Precision.HIGHEST
    x = jnp.einsum("bYy,bywc->bYwc", rows, x, precision=highest)
    return jnp.einsum("bXx,byxc->byXc", columns, x, precision=highest)


def resize_align_corners(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b H W c"]:
    """Bilinear with fixed centres of the corner pixels: place = index (n - 1) / (N - 1)."""
    return sample_bilinear(x, align_corners_grid((x.shape[1], x.shape[2]), size))


def hr_flow(flow: Float[Array, "b h w 2"], size: tuple[int, int]) -> Float[Array, "b H W 2"]:
    """LR flow resized to HR `size` (half-pixel bilinear), in HR pixels."""
    h, w = flow.shape[1:3]
    return resize_bilinear(flow, size) * jnp.array([[[[size[1] / w, size[0] / h]]]], jnp.float32)
