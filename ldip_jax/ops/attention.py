"""Softmax attention over references that come one at a time (online softmax)."""

from typing import NamedTuple

import jax.numpy as jnp
from einops import rearrange, repeat
from jaxtyping import Array, Float

FLOOR = -1e30


class Attended(NamedTuple):
    """What is kept of the references so far, per pixel, in float32.

    Attributes:
        highest: each head's highest score.
        weight: each head's sum of exp(score - highest).
        value: the sum of the values with those weights, heads concatenated.
    """

    highest: Float[Array, "b h w heads"]
    weight: Float[Array, "b h w heads"]
    value: Float[Array, "b h w c"]


def attend_nothing(b: int, h: int, w: int, heads: int, features: int) -> Attended:
    """The state before the first reference."""
    zeros = jnp.zeros((b, h, w, heads), jnp.float32)
    return Attended(jnp.full_like(zeros, FLOOR), zeros, jnp.zeros((b, h, w, features), jnp.float32))


def attend_one(
    state: Attended,
    query: Float[Array, "b h w c"],
    key: Float[Array, "b h w c"],
    value: Float[Array, "b h w c"],
    valid: Float[Array, "b"],
) -> Attended:
    """Add one more reference to the softmax if it is `valid`."""
    heads = state.highest.shape[-1]
    size = query.shape[-1] // heads
    split = lambda x: rearrange(x.astype(jnp.float32), "b h w (n d) -> b h w n d", n=heads)  # noqa: E731
    score = jnp.sum(split(query) * split(key), axis=-1) * size**-0.5
    valid = valid.astype(jnp.float32)[:, None, None, None]
    score = jnp.where(valid > 0, score, FLOOR)
    highest = jnp.maximum(state.highest, score)
    old, new = jnp.exp(state.highest - highest), jnp.exp(score - highest) * valid
    spread = lambda x: repeat(x, "b h w n -> b h w (n d)", d=size)  # noqa: E731
    return Attended(
        highest,
        state.weight * old + new,
        state.value * spread(old) + value.astype(jnp.float32) * spread(new),
    )


def attended_value(state: Attended) -> Float[Array, "b h w c"]:
    """The result of the attention; 0 where no reference was valid."""
    size = state.value.shape[-1] // state.weight.shape[-1]
    weight = repeat(jnp.where(state.weight > 0, state.weight, 1.0), "b h w n -> b h w (n d)", d=size)
    return state.value / weight
