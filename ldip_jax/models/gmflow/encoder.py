"""GMFlow's feature extractor: a residual network with instance normalisation, read at two scales."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.layers import Conv
from ldip_jax.ops.conv import conv2d


def instance_norm(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Every channel of every image to mean 0 and variance 1, without parameters."""
    mean = jnp.mean(x, axis=(1, 2), keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=(1, 2), keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5)


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions beside a shortcut, which is convolved where the shape changes."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W {self.features}"]:
        y = Conv(self.features, stride=self.stride, use_bias=False, name="conv1")(x)
        y = nn.relu(instance_norm(y))
        y = Conv(self.features, use_bias=False, name="conv2")(y)
        y = nn.relu(instance_norm(y))
        if x.shape[-1] != self.features or self.stride != 1:
            x = instance_norm(Conv(self.features, kernel=1, stride=self.stride, name="downsample_0")(x))
        return nn.relu(x + y)


class TridentConv(nn.Module):
    """One 3x3 kernel at stride 1 and at stride 2: the same features at two scales."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b h//2 w//2 c"]]:
        c = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, c, c), jnp.float32)
        return conv2d(x, kernel), conv2d(x, kernel, stride=2)


class Encoder(nn.Module):
    """Images (normalised) to 128 features at 1/4 and at 1/8 of their size."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"]
    ) -> tuple[Float[Array, "b h//4 w//4 128"], Float[Array, "b h//8 w//8 128"]]:
        x = nn.relu(instance_norm(Conv(64, kernel=7, stride=2, use_bias=False, name="conv1")(x)))
        for stage, (features, stride) in enumerate(((64, 1), (96, 2), (128, 1)), start=1):
            x = ResidualBlock(features, stride, name=f"layer{stage}_0")(x)
            x = ResidualBlock(features, name=f"layer{stage}_1")(x)
        x = Conv(128, kernel=1, name="conv2")(x)
        return TridentConv(name="trident_conv")(x)
