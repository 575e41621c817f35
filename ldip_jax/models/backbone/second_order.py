"""Second-order propagation: four branches, each of which looks back on two frames."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ldip_jax.models.backbone.propagation import Branch

FOUR_BRANCHES = (
    Branch("backward_1", reverse=True),
    Branch("forward_1", reverse=False),
    Branch("backward_2", reverse=True),
    Branch("forward_2", reverse=False),
)


class TwoFrames(NamedTuple):
    """What a branch remembers.

    Attributes:
        last, before: its outputs of the previous frame and of the one before that; zero where there is none.
        flow: from the previous frame to the one before it, (x, y) in pixels.
        count: frames done.
    """

    last: Float[Array, "b h w c"]
    before: Float[Array, "b h w c"]
    flow: Float[Array, "b h w 2"]
    count: Int[Array, ""]

    def after(self, out: Float[Array, "b h w c"], flow: Float[Array, "b h w 2"]) -> "TwoFrames":
        """The memory after one more frame, from its output and its flow to the previous one."""
        return TwoFrames(out, self.last, flow, self.count + 1)


def no_frames(features: Float[Array, "b h w c"]) -> TwoFrames:
    """The memory before the first frame of a branch; `features` gives shape and type."""
    flow = jnp.zeros((*features.shape[:-1], 2), jnp.float32)
    return TwoFrames(jnp.zeros_like(features), jnp.zeros_like(features), flow, jnp.zeros((), jnp.int32))
