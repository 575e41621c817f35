"""How far a match can be trusted: whether the way back leads home, and whether it stays inside."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.matching import CONFIDENT
from ldip_jax.ops.warp import bilinear, pixel_grid

SIGMA = 1.5


def inside(coords: Float[Array, "b h w 2"], size: Float[Array, "2"]) -> Float[Array, "b h w 1"]:
    """1.0 where the place (x, y), rounded, is a pixel of a map of `size` = (width, height), else 0.0."""
    place = jnp.round(coords)
    within = (place >= 0.0) & (place <= size[None, None, None] - 1.0)
    return jnp.all(within, axis=-1, keepdims=True).astype(jnp.float32)


def forward_backward_confidence(
    forward: Float[Array, "b h w 2"], backward: Float[Array, "b h w 2"], sigma: float = SIGMA
) -> Float[Array, "b h w 1"]:
    """exp(-|f(x) + b(x + f(x))|^2 / (2 sigma^2)), in [0, 1]; 0 where x + f(x) lies outside.

    Args:
        forward, backward: flows in pixels, (x, y), between two images of one size; `backward` is sampled
            bilinearly.
        sigma: the error in pixels that is still trusted.
    """
    h, w = forward.shape[1:3]
    target = pixel_grid(h, w)[None] + forward
    error = forward + bilinear(backward, target, padding="border")
    squared = jnp.sum(jnp.square(error), axis=-1, keepdims=True)
    return jnp.exp(-squared / (2.0 * sigma**2)) * inside(target, jnp.array([w, h], jnp.float32))


def confident_share(confidence: Float[Array, "*b h w 1"]) -> float:
    """Share of pixels, in [0, 1], with a confidence above 0.5; what a reference is chosen by."""
    return float(jnp.mean(confidence > CONFIDENT))
