"""Resizing of image and feature maps, `... h w c`, with the pixel conventions of the networks here.

Between sizes a place x maps to (x + 0.5) W'/W - 0.5 (half-pixel centres) unless a name says otherwise.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def _to_size(x: Array, size: tuple[int, int]) -> tuple[int, ...]:
    return (*x.shape[:-3], *size, x.shape[-1])


def resize_bilinear(x: Float[Array, "*b h w c"], size: tuple[int, int]) -> Float[Array, "*b H W c"]:
    """Half-pixel bilinear, never antialiased; torch `interpolate(mode="bilinear")`."""
    return jax.image.resize(x, _to_size(x, size), "linear", antialias=False)


def resize_bicubic(
    x: Float[Array, "*b h w c"], size: tuple[int, int], antialias: bool = True
) -> Float[Array, "*b H W c"]:
    """Half-pixel bicubic (a = -0.5), by default with the kernel stretched when shrinking."""
    return jax.image.resize(x, _to_size(x, size), "cubic", antialias=antialias)


def _align_corners_matrix(n_in: int, n_out: int) -> np.ndarray:
    place = np.arange(n_out) * ((n_in - 1) / (n_out - 1) if n_out > 1 else 0.0)
    low = np.minimum(np.floor(place).astype(int), n_in - 1)
    high = np.minimum(low + 1, n_in - 1)
    weights = np.zeros((n_out, n_in), np.float32)
    np.add.at(weights, (np.arange(n_out), low), (1.0 - (place - low)).astype(np.float32))
    np.add.at(weights, (np.arange(n_out), high), (place - low).astype(np.float32))
    return weights


def resize_align_corners(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b H W c"]:
    """Bilinear with the corner pixels' centres held: place = index (n - 1) / (N - 1)."""
    rows = jnp.asarray(_align_corners_matrix(x.shape[1], size[0]))
    columns = jnp.asarray(_align_corners_matrix(x.shape[2], size[1]))
    highest = jax.lax.Precision.HIGHEST
    x = jnp.einsum("Yy,bywc->bYwc", rows, x, precision=highest)
    return jnp.einsum("Xx,byxc->byXc", columns, x, precision=highest)
