"""Flow at 1/4 size to full size: each fine pixel is a convex mixture of its 3x3 coarse neighbours."""

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from ldip_jax.models.gmflow.matching import neighbourhood

FACTOR = 4


def convex_upsample(
    flow: Float[Array, "b h w 2"], logits: Float[Array, "b h w 144"]
) -> Float[Array, "b 4*h 4*w 2"]:
    """`logits`: channels (neighbour, fine row, fine column); neighbours outside of the map count as 0."""
    weights = rearrange(logits, "b h w (k i j) -> b h w k i j", i=FACTOR, j=FACTOR)
    weights = jax.nn.softmax(weights, axis=3)
    fine = jnp.einsum("bhwkij,bhwkd->bhwijd", weights, neighbourhood(FACTOR * flow, 1))
    return rearrange(fine, "b h w i j d -> b (h i) (w j) d")
