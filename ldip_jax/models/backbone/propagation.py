"""A backbone's recurrence over a whole clip as one scanned program."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class Branch(NamedTuple):
    """One pass over the clip: its name, and whether it runs from the last frame to the first."""

    name: str
    reverse: bool


def over_time(method, reverse: bool = False):
    """Lift `method(module, carry, inputs)` to a scan over axis 1 with shared parameters."""
    return nn.scan(
        method,
        variable_broadcast="params",
        split_rngs={"params": False},
        in_axes=1,
        out_axes=1,
        reverse=reverse,
    )


def clip_flows(
    backbone: nn.Module, frames: Float[Array, "b t h w 3"]
) -> tuple[Float[Array, "b t h w 2"], Float[Array, "b t h w 2"]]:
    """Flow of each frame to the next (last: zero) and to the one before (first: zero), pair by pair."""

    def pair(module, carry, inputs):
        return carry, module.flow(*inputs)

    zero = jnp.zeros_like(frames[:, :1, ..., :2], jnp.float32)
    here, there = frames[:, :-1], frames[:, 1:]
    if frames.shape[1] == 1:
        # Parameters must exist even where no pair does.
        backbone.flow(frames[:, 0], frames[:, 0])
        return zero, zero
    _, to_next = over_time(pair)(backbone, None, (here, there))
    _, to_previous = over_time(pair)(backbone, None, (there, here))
    return jnp.concatenate([to_next, zero], 1), jnp.concatenate([zero, to_previous], 1)


def propagate(backbone: nn.Module, frames: Float[Array, "b t h w 3"]) -> Float[Array, "b t h w c"]:
    """`reconstruct` of every frame after all branches have run."""
    to_next, to_previous = clip_flows(backbone, frames)
    encode = over_time(lambda module, carry, frame: (carry, module.encode(frame)))
    outputs = [encode(backbone, None, frames)[1]]
    for branch in backbone.branches:

        def step(module, carry, inputs, branch=branch):
            return module.step(branch, carry, *inputs)

        flows = to_next if branch.reverse else to_previous
        start = backbone.carry(frames[:, 0])
        outputs.append(over_time(step, branch.reverse)(backbone, start, (tuple(outputs), flows))[1])
    reconstruct = over_time(lambda module, carry, inputs: (carry, module.reconstruct(inputs)))
    return reconstruct(backbone, None, tuple(outputs))[1]
