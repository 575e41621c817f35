"""Gaussian low-pass of image maps."""

import math
from functools import partial, reduce
from operator import add

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.ops.bands import map_bands
from ldip_jax.ops.conv import weighted_sum

# Larger maps are blurred in bands of rows.
BAND_PIXELS = 2**18


def _kernel(sigma: float) -> np.ndarray:
    radius = blur_reach(sigma)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-6)) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def blur_reach(sigma: float) -> int:
    """How many pixels away a pixel still counts."""
    return math.ceil(4.0 * sigma)


def _kernels(sigma: Float[Array, "b"], radius: int) -> Float[Array, "{2*radius+1} b 1 1 1"]:
    """The same for each map, with zeros around it."""
    taps, sigma = jnp.abs(jnp.arange(-radius, radius + 1))[:, None], sigma[None]
    weights = jnp.exp(-0.5 * (taps / jnp.maximum(sigma, 1e-6)) ** 2)
    weights = jnp.where(taps <= jnp.ceil(4.0 * sigma), weights, 0.0)
    return (weights / weights.sum(axis=0, keepdims=True))[..., None, None, None]


def gaussian_blur(
    x: Float[Array, "b h w c"],
    sigma: tuple[float, float] | tuple[Float[Array, "b"], Float[Array, "b"]],
    radius: int = 0,
) -> Float[Array, "b h w c"]:
    """Gaussian low-pass, borders replicated.

    Args:
        x: maps.
        sigma: standard deviation in pixels along (y, x); 0 leaves that axis unchanged. Arrays, one value for
            each map, if `radius` is given: then one program serves every sigma.
        radius: taps on either side, at least 4 sigma; 0 for numbers.
    """
    if radius:
        return _blurred_by(x, sigma, radius)
    return _banded(x, (float(sigma[0]), float(sigma[1])))


@partial(jax.jit, static_argnums=1)
def _banded(x: Float[Array, "b h w c"], sigma: tuple[float, float]) -> Float[Array, "b h w c"]:
    return map_bands(lambda x: _blurred(x, sigma), (x,), BAND_PIXELS, blur_reach(sigma[0]))


def _blurred(x: Float[Array, "b h w c"], sigma: tuple[float, float]) -> Float[Array, "b h w c"]:
    for axis, s in zip((1, 2), sigma, strict=True):
        x = weighted_sum(_kernel(s).tolist(), _shifted(x, axis, blur_reach(s)))
    return x


@partial(jax.jit, static_argnums=2)
def _blurred_by(
    x: Float[Array, "b h w c"], sigma: tuple[Float[Array, "b"], Float[Array, "b"]], radius: int
) -> Float[Array, "b h w c"]:
    for axis, s in zip((1, 2), sigma, strict=True):
        parts = zip(_kernels(s, radius), _shifted(x, axis, radius), strict=True)
        x = reduce(add, (weights * part for weights, part in parts))
    return x


def _shifted(x: Float[Array, "b h w c"], axis: int, reach: int) -> list[Float[Array, "b h w c"]]:
    """The map, moved by -reach to reach pixels along an axis, borders replicated."""
    pad = [(0, 0)] * 4
    pad[axis] = (reach, reach)
    # Without the barrier, XLA on a CPU computes what `x` comes from anew for every tap.
    padded, size = jax.lax.optimization_barrier(jnp.pad(x, pad, mode="edge")), x.shape[axis]
    return [jax.lax.slice_in_dim(padded, tap, tap + size, axis=axis) for tap in range(2 * reach + 1)]
