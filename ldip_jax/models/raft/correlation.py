"""The similarity of every pixel to every pixel of the other image, at four scales, and looking it up."""

import math

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from ldip_jax.ops.warp import bilinear

LEVELS = 4

Pyramid = tuple[Float[Array, "p _ _ 1"], ...]


def correlation_pyramid(a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Pyramid:
    """For each pixel of `a`, one map of its similarity to `b`; then the same at half the size, and so on."""
    scores = jnp.einsum("bhwc,bijc->bhwij", a, b) / math.sqrt(a.shape[-1])
    levels = [rearrange(scores, "b h w i j -> (b h w) i j 1")]
    for _ in range(LEVELS - 1):
        levels.append(nn.avg_pool(levels[-1], (2, 2), strides=(2, 2)))
    return tuple(levels)


def look_up(pyramid: Pyramid, places: Float[Array, "b h w 2"], radius: int) -> Float[Array, "b h w k"]:
    """Similarity around a place in the other image, (x, y), on every level: (2 radius + 1)^2 values each.

    Columns change slowest in a level's values; 0 outside of the image.
    """
    b, h, w, _ = places.shape
    side = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    around = jnp.stack(jnp.meshgrid(side, side, indexing="ij"), axis=-1)[None]
    centre = places.reshape(b * h * w, 1, 1, 2)
    found = [bilinear(level, centre / 2**index + around) for index, level in enumerate(pyramid)]
    return jnp.concatenate([level.reshape(b, h, w, -1) for level in found], axis=-1)
