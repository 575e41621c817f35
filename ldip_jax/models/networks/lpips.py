"""LPIPS v0.1: the perceptual distance of two images, from a classifier's features (Zhang et al., 2018)."""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Net = Literal["alex", "vgg"]

MIN_SIDE = {"alex": 31, "vgg": 16}
"""The smallest side, in pixels, for which the deepest features are not empty."""

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class Convolution(nn.Module):
    """k x k convolution with bias, and ReLU, in float32 at full precision on every device."""

    features: int
    kernel: int
    stride: int
    pad: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W {self.features}"]:
        sides, steps = (self.kernel, self.kernel), (self.stride, self.stride)
        pads = ((self.pad, self.pad), (self.pad, self.pad))
        conv = nn.Conv(self.features, sides, steps, pads, precision=jax.lax.Precision.HIGHEST, name="conv")
        return nn.relu(conv(x))


class AlexNet(nn.Module):
    """The outputs of its five convolutions after ReLU: 64, 192, 384, 256 and 256 channels."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> list[Float[Array, "b _ _ _"]]:
        maps = []
        layers = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
        for index, layer in enumerate(layers):
            if index in (1, 2):
                x = nn.max_pool(x, (3, 3), strides=(2, 2))
            x = Convolution(*layer, name=f"layer_{index}")(x)
            maps.append(x)
        return maps


class VGG16(nn.Module):
    """The last output of each of its five stages after ReLU: 64, 128, 256, 512 and 512 channels."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> list[Float[Array, "b _ _ _"]]:
        maps, index = [], 0
        for stage, (features, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
            if stage:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            for _ in range(count):
                x = Convolution(features, 3, 1, 1, name=f"layer_{index}")(x)
                index += 1
            maps.append(x)
        return maps


class LPIPS(nn.Module):
    """0 for equal images; about 0.1 to 0.8 for different restorations of a scene.

    Attributes:
        net: the network whose features are compared, AlexNet or VGG-16.
    """

    net: Net = "alex"

    @nn.compact
    def __call__(self, a: Float[Array, "b h w 3"], b: Float[Array, "b h w 3"]) -> Float[Array, " b"]:
        """Distances of pairs of images in [0, 1] with sides of at least `LEAST[net]` pixels."""
        features = {"alex": AlexNet, "vgg": VGG16}[self.net](name="net")
        shift, scale = (jnp.array([[[value]]], jnp.float32) for value in (_SHIFT, _SCALE))
        both = jnp.concatenate([a, b]).astype(jnp.float32)
        maps: Sequence[Array] = features((2.0 * both - 1.0 - shift) / scale)
        distance = jnp.zeros((a.shape[0],), jnp.float32)
        for index, x in enumerate(maps):
            norm = jnp.sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True))
            first, second = jnp.split(x / (norm + 1e-10), 2)
            kernel = self.param(f"lin_{index}", nn.initializers.ones, (1, 1, x.shape[-1], 1), jnp.float32)
            weighed = jnp.sum(jnp.square(first - second) * kernel[None, ..., 0], axis=-1)
            distance = distance + jnp.mean(weighed, axis=(1, 2))
        return distance
