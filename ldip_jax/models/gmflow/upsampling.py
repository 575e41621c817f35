"""Flow at 1/4 or 1/8 size to full size: each fine pixel is a convex mixture of its 3x3 coarse neighbours."""

import math

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from ldip_jax.models.gmflow.matching import neighbourhood


def convex_upsample(
    flow: Float[Array, "b h w 2"], logits: Float[Array, "b h w k"]
) -> Float[Array, "b H W 2"]:
    """`logits`: channels (neighbour, fine row, fine column); neighbours outside of the map count as 0."""
    factor = math.isqrt(logits.shape[-1] // 9)
    weights = rearrange(logits, "b h w (k i j) -> b h w k i j", i=factor, j=factor)
    weights = jax.nn.softmax(weights, axis=3)
    fine = jnp.einsum("bhwkij,bhwkd->bhwijd", weights, neighbourhood(factor * flow, 1))
    return rearrange(fine, "b h w i j d -> b (h i) (w j) d")
