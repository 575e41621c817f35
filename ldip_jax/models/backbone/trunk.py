"""The residual trunk of the convolutional backbones."""

import flax.linen as nn
from jaxtyping import Array, Float

from ldip_jax.models.layers import Conv, leaky_relu


class ResidualBlock(nn.Module):
    """x + conv2(relu(conv1(x)))."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], _: None = None) -> tuple[Float[Array, "b h w c"], None]:
        y = nn.relu(Conv(self.features, winograd=True, name="conv1")(x))
        return x + Conv(self.features, winograd=True, name="conv2")(y), None


class ResidualTrunk(nn.Module):
    """A convolution to `features` channels, LeakyReLU, then `blocks` residual blocks.

    The blocks' parameters are stacked on a leading axis and scanned: one compiled body for all of them.
    """

    features: int
    blocks: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w {self.features}"]:
        x = leaky_relu(Conv(self.features, name="main_0")(x))
        stack = nn.scan(
            ResidualBlock, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.blocks
        )
        return stack(self.features, name="main_2")(x, None)[0]
