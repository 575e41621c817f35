"""Flow as the expected place of the match: over the whole image, or over a window around each pixel."""

import math

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from ldip_jax.ops.warp import pixel_grid


def _similarity(a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Float[Array, "b p q"]:
    return jnp.einsum("bpc,bqc->bpq", *(rearrange(x, "b h w c -> b (h w) c") for x in (a, b))) / math.sqrt(
        a.shape[-1]
    )


def global_matching(a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Float[Array, "2*b h w 2"]:
    """Flow a -> b, then flow b -> a, in one batch: both are read from the same table of similarities."""
    h, w = a.shape[1:3]
    grid = pixel_grid(h, w).reshape(h * w, 2)
    scores = _similarity(a, b)
    forward = jnp.einsum("bpq,qd->bpd", jax.nn.softmax(scores, axis=2), grid)
    backward = jnp.einsum("bpq,pd->bqd", jax.nn.softmax(scores, axis=1), grid)
    return (jnp.concatenate([forward, backward]) - grid[None]).reshape(-1, h, w, 2)


def _padded(x: Float[Array, "b h w c"], radius: int) -> Array:
    return jnp.pad(x, ((0, 0), (radius, radius), (radius, radius), (0, 0)))


def neighbourhood(x: Float[Array, "b h w c"], radius: int) -> Float[Array, "b h w k c"]:
    """Each pixel's (2 radius + 1)^2 neighbours in reading order; 0 outside of the map."""
    h, w = x.shape[1:3]
    padded = _padded(x, radius)
    side = range(2 * radius + 1)
    return jnp.stack([padded[:, y : y + h, x : x + w] for y in side for x in side], axis=3)


def local_similarity(
    a: Float[Array, "b h w c"], b: Float[Array, "b h w c"], radius: int
) -> Float[Array, "b h w k"]:
    """Product of each pixel of `a` with the `neighbourhood` of the same place in `b`, over sqrt(c)."""
    side = 2 * radius + 1
    padded = _padded(b, radius)

    # One neighbour at a time: all of them at once would hold k copies of `b`.
    def score(k: Array) -> Array:
        return jnp.sum(a * jax.lax.dynamic_slice(padded, (0, k // side, k % side, 0), a.shape), axis=-1)

    scores = jax.lax.map(score, jnp.arange(side * side))
    return jnp.moveaxis(scores, 0, -1) / math.sqrt(a.shape[-1])


def local_matching(
    a: Float[Array, "b h w c"], b: Float[Array, "b h w c"], radius: int = 4
) -> Float[Array, "b h w 2"]:
    """Flow a -> b among the places within `radius` pixels (each axis) that lie inside of the map."""
    inside = neighbourhood(jnp.ones((1, *a.shape[1:3], 1)), radius)[..., 0] > 0.5
    scores = jnp.where(inside, local_similarity(a, b, radius), -1e9)
    offsets = pixel_grid(2 * radius + 1, 2 * radius + 1).reshape(-1, 2) - radius
    return jnp.einsum("bhwk,kd->bhwd", jax.nn.softmax(scores), offsets)
