"""The first five convolutions of VGG-16 and VGG-19, which are the same in both (Simonyan, 2015).

555,328 parameters. MRefSR uses them three times: VGG-19 as the features of references, and VGG-16, trained
further by C2-Matching, once for the input and once for references.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from ldip_jax.models.layers import Conv, over_bands
from ldip_jax.models.networks.spynet import IMAGENET_MEAN, IMAGENET_STD

STEP = 4
"""Image pixels per pixel of `conv3_1`; sides of images are multiples of it."""


class VGGMaps(NamedTuple):
    """Features of an image after ReLU, at its size, half of it, and a quarter of it."""

    relu1_1: Float[Array, "b H W 64"]
    relu2_1: Float[Array, "b H//2 W//2 128"]
    relu3_1: Float[Array, "b H//4 W//4 256"]


def _fold(x: Array, step: int) -> Array:
    return rearrange(x, "b (h i) (w j) c -> b h w (i j c)", i=step, j=step)


def _unfold(x: Array, step: int) -> Array:
    return rearrange(x, "b h w (i j c) -> b (h i) (w j) c", i=step, j=step)


class VGG(nn.Module):
    """The layers up to `conv3_1`.

    Attributes:
        band_pixels: pixels of `conv3_1` per band of rows; None for the whole image at once.
    """

    band_pixels: int | None = None

    def setup(self):
        self.conv1_1, self.conv1_2 = Conv(64), Conv(64)
        self.conv2_1, self.conv2_2 = Conv(128), Conv(128)
        self.conv3_1 = Conv(256)

    def __call__(self, image: Float[Array, "b H W 3"]) -> Float[Array, "b H//4 W//4 256"]:
        """`conv3_1`, before ReLU, of RGB images in [0, 1]."""

        def chain(module: "VGG", folded: Array) -> Array:
            return module._levels(_unfold(folded, STEP))[2]

        return self._over_bands(chain, image)

    def maps(self, image: Float[Array, "b H W 3"]) -> VGGMaps:
        """The features of three layers after ReLU, of RGB images in [0, 1]."""

        def chain(module: "VGG", folded: Array) -> tuple[Array, Array, Array]:
            first, second, third = module._levels(_unfold(folded, STEP))
            return _fold(first, STEP), _fold(second, STEP // 2), nn.relu(third)

        first, second, third = self._over_bands(chain, image)
        return VGGMaps(_unfold(first, STEP), _unfold(second, STEP // 2), third)

    def _over_bands(self, chain: Callable[["VGG", Array], Any], image: Array) -> Any:
        # Rows of `conv3_1`, so that bands begin where pooling does. A row depends on 10 image rows around it.
        return over_bands(self, chain, (_fold(image, STEP),), halo=3)

    def _levels(self, image: Array) -> tuple[Array, Array, Array]:
        """`relu1_1`, `relu2_1`, and `conv3_1` before ReLU."""
        mean, std = (jnp.asarray(v, image.dtype)[None, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        first = nn.relu(self.conv1_1((image - mean) / std))
        x = nn.max_pool(nn.relu(self.conv1_2(first)), (2, 2), strides=(2, 2))
        second = nn.relu(self.conv2_1(x))
        x = nn.max_pool(nn.relu(self.conv2_2(second)), (2, 2), strides=(2, 2))
        return first, second, self.conv3_1(x)
