"""Gaussian low-pass of image maps."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def _kernel(sigma: float) -> np.ndarray:
    radius = math.ceil(4.0 * sigma)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-6)) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def gaussian_blur(x: Float[Array, "b h w c"], sigma: tuple[float, float]) -> Float[Array, "b h w c"]:
    """Gaussian low-pass, borders replicated.

    Args:
        x: maps.
        sigma: standard deviation in pixels along (y, x); 0 leaves that axis as it is.
    """
    for axis, s in zip((1, 2), sigma, strict=True):
        kernel = _kernel(s)
        radius = len(kernel) // 2
        pad = [(0, 0)] * 4
        pad[axis] = (radius, radius)
        padded = jnp.pad(x, pad, mode="edge")
        window = [slice(None)] * 4
        total = jnp.zeros_like(x)
        for tap, weight in enumerate(kernel.tolist()):
            window[axis] = slice(tap, tap + x.shape[axis])
            total = total + weight * padded[tuple(window)]
        x = total
    return x
