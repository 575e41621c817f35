"""BasicVSR (Chan et al., CVPR 2021): bidirectional, flow-warped propagation. 6,291,311 parameters."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.backbone.interface import Backbone
from ldip_jax.models.backbone.propagation import Branch
from ldip_jax.models.backbone.spynet import SPyNet
from ldip_jax.models.backbone.trunk import ResidualTrunk
from ldip_jax.models.layers import Conv, leaky_relu
from ldip_jax.ops.warp import flow_warp


class BasicVSR(Backbone):
    """One backward and one forward branch, a residual trunk each, fused by a 1x1 convolution.

    Attributes:
        num_blocks: residual blocks per branch.
    """

    num_blocks: int = 30

    branches: ClassVar[tuple[Branch, ...]] = (
        Branch("backward", reverse=True),
        Branch("forward", reverse=False),
    )

    def setup(self):
        self.spynet = SPyNet()
        self.backward_trunk = ResidualTrunk(self.mid_channels, self.num_blocks)
        self.forward_trunk = ResidualTrunk(self.mid_channels, self.num_blocks)
        self.fusion = Conv(self.mid_channels, kernel=1)
        self.setup_head()

    def flow(self, ref: Float[Array, "b h w 3"], supp: Float[Array, "b h w 3"]) -> Float[Array, "b h w 2"]:
        return self.spynet(ref, supp)

    def encode(self, frame: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
        return frame

    def carry(self, frame: Float[Array, "b h w 3"]) -> Float[Array, "b h w c"]:
        return jnp.zeros((*frame.shape[:-1], self.mid_channels), frame.dtype)

    def step(
        self,
        branch: Branch,
        carry: Float[Array, "b h w c"],
        inputs: tuple[Array, ...],
        flow: Float[Array, "b h w 2"],
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]]:
        trunk = self.backward_trunk if branch.reverse else self.forward_trunk
        out = trunk(jnp.concatenate([inputs[0], flow_warp(carry, flow)], axis=-1))
        return out, out

    def reconstruct(self, inputs: tuple[Array, ...]) -> Float[Array, "b h w c"]:
        """`fused`: the branches' outputs side by side through the 1x1 convolution."""
        return leaky_relu(self.fusion(jnp.concatenate(inputs[1:], axis=-1)))
