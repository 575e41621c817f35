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


class Flows(NamedTuple):
    """LR flow of every frame to the next one (last: zero) and to the one before (first: zero)."""

    to_next: Float[Array, "b t h w 2"]
    to_previous: Float[Array, "b t h w 2"]


def clip_flows(backbone: nn.Module, frames: Float[Array, "b t H W 3"]) -> Flows:
    """The flows of a clip, pair by pair."""
    here, there = frames[:, :-1], frames[:, 1:]
    if frames.shape[1] == 1:
        # Parameters must exist even where no pair does.
        zero = jnp.zeros_like(backbone.flow(frames[:, 0], frames[:, 0]))[:, None]
        return Flows(zero, zero)
    # Both directions in one scan: the network is compiled once.
    ways = jnp.concatenate([here, there], axis=1), jnp.concatenate([there, here], axis=1)
    _, flow = over_time(lambda module, _, pair: (None, module.flow(*pair)))(backbone, None, ways)
    to_next, to_previous = jnp.split(flow, 2, axis=1)
    zero = jnp.zeros_like(flow[:, :1])
    return Flows(jnp.concatenate([to_next, zero], 1), jnp.concatenate([zero, to_previous], 1))


def propagate(
    backbone: nn.Module, frames: Float[Array, "b t H W 3"], flows: Flows
) -> Float[Array, "b t h w c"]:
    """`reconstruct` of every frame after all branches have run."""
    encode = over_time(lambda module, _, frame: (None, module.encode(frame)))
    inputs = (encode(backbone, None, frames)[1],)
    for branch in backbone.branches:

        def step(module, carry, inputs, branch=branch):
            return module.step(branch, carry, *inputs)

        flow = flows.to_next if branch.reverse else flows.to_previous
        start = backbone.carry(frames[:, 0])
        _, out = over_time(step, branch.reverse)(backbone, start, (inputs, flow))
        inputs = backbone.keep(inputs, out)
    reconstruct = over_time(lambda module, _, inputs: (None, module.reconstruct(inputs)))
    return reconstruct(backbone, None, inputs)[1]
