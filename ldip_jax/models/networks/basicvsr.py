"""BasicVSR (Chan et al., CVPR 2021): bidirectional, flow-warped propagation. 6,291,311 parameters."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.layers import Conv, leaky_relu, stacked
from ldip_jax.models.networks.backbone import Backbone, Branch
from ldip_jax.models.networks.spynet import SPyNet
from ldip_jax.ops.warp import flow_warp


class ResidualBlock(nn.Module):
    """x + conv2(relu(conv1(x)))."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], _: None = None) -> tuple[Float[Array, "b h w c"], None]:
        y = nn.relu(Conv(self.features, winograd=True, name="conv1")(x))
        return x + Conv(self.features, winograd=True, name="conv2")(y), None


class ResidualTrunk(nn.Module):
    """A convolution to `features` channels, LeakyReLU, then `blocks` residual blocks.

    The blocks' parameters are stacked on a leading axis and scanned, so one body is compiled for all.
    """

    features: int
    blocks: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w {self.features}"]:
        x = leaky_relu(Conv(self.features, winograd=True, name="main_0")(x))
        stack = stacked(self, ResidualBlock, self.blocks)
        return stack(self.features, name="main_2")(x, None)[0]


class BasicVSR(Backbone):
    """One backward and one forward branch, each with a residual trunk, fused by a 1x1 convolution.

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
        """`fused`: the branches' concatenated outputs after the 1x1 convolution."""
        return leaky_relu(self.fusion(jnp.concatenate(inputs[1:], axis=-1)))
