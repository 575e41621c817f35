"""RAFT's encoders: images to features at 1/8 of their size."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.gmflow.encoder import instance_norm
from ldip_jax.models.layers import Conv


class FixedNorm(nn.Module):
    """Batch normalisation by the statistics of training, as at inference."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        starts = {"mean": nn.initializers.zeros, "var": nn.initializers.ones}
        starts |= {"scale": nn.initializers.ones, "bias": nn.initializers.zeros}
        mean, var, scale, bias = (
            self.param(name, start, x.shape[-1:], jnp.float32)[None, None, None]
            for name, start in starts.items()
        )
        return (x - mean) * (jax.lax.rsqrt(var + 1e-5) * scale) + bias


class NormedConv(nn.Module):
    """A convolution, its normalisation ("instance", "batch" or "none") and, unless told otherwise, ReLU."""

    features: int
    kernel: int
    norm: str
    stride: int = 1
    relu: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W {self.features}"]:
        x = Conv(self.features, kernel=self.kernel, stride=self.stride, name="conv")(x)
        if self.norm == "instance":
            x = instance_norm(x)
        elif self.norm == "batch":
            x = FixedNorm(name="norm")(x)
        return nn.relu(x) if self.relu else x


class Block(nn.Module):
    """Two 3x3 convolutions, or three of which only the narrow middle one is 3x3, beside a shortcut."""

    features: int
    stride: int
    norm: str
    bottleneck: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W {self.features}"]:
        narrow = self.features // 4
        # Width, side of the kernel, stride.
        plan = ((self.features, 3, self.stride), (self.features, 3, 1))
        if self.bottleneck:
            plan = ((narrow, 1, 1), (narrow, 3, self.stride), (self.features, 1, 1))
        y = x
        for index, (features, kernel, stride) in enumerate(plan, start=1):
            y = NormedConv(features, kernel, self.norm, stride, name=f"convnormrelu{index}")(y)
        if self.stride > 1:
            x = NormedConv(self.features, 1, self.norm, self.stride, relu=False, name="downsample")(x)
        return nn.relu(x + y)


class Encoder(nn.Module):
    """A 7x7 convolution, three stages of two blocks, a 1x1 convolution.

    Attributes:
        widths: channels of the first convolution, of the stages and of the output.
        norm: "instance", "batch" or "none".
        bottleneck: the kind of the blocks.
    """

    widths: tuple[int, int, int, int, int]
    norm: str
    bottleneck: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b h//8 w//8 c"]:
        first, *stages, last = self.widths
        x = NormedConv(first, 7, self.norm, stride=2, name="convnormrelu")(x)
        for index, features in enumerate(stages, start=1):
            for place, stride in enumerate((1 if index == 1 else 2, 1)):
                block = Block(features, stride, self.norm, self.bottleneck, name=f"layer{index}_{place}")
                x = block(x)
        return Conv(last, kernel=1, name="conv")(x)
