"""Feature extractor of Ref-Align: a convolution and two residual dense blocks (paper, section 7.2)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.bands import over_bands
from ldip_jax.models.layers import Conv, leaky_relu


class RDB(nn.Module):
    """Residual dense block: dense 3x3 layers, 1x1 local fusion, residual (Zhang et al., CVPR 2018).

    Attributes:
        features: channels in and out.
        growth: channels that each dense layer adds.
        depth: dense layers.
    """

    features: int = 64
    growth: int = 16
    depth: int = 4

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], inside: Float[Array, "b h w 1"] | None = None
    ) -> Float[Array, "b h w c"]:
        """Where `inside` is 0, every 3x3 layer sees zeros: the map ends there."""
        keep = (lambda y: y) if inside is None else (lambda y: y * inside)
        dense = keep(x)
        for index in range(self.depth):
            grown = leaky_relu(Conv(self.growth, name=f"dense_{index}")(dense))
            dense = jnp.concatenate([dense, keep(grown)], axis=-1)
        return x + Conv(self.features, kernel=1, name="local_fusion")(dense)


class FeatureExtractor(nn.Module):
    """64 features of an image at its own resolution. 119,808 parameters.

    Attributes:
        features: channels out.
        blocks: residual dense blocks.
        band_pixels: pixels per band of rows; None for the whole image at once.
    """

    features: int = 64
    blocks: int = 2
    band_pixels: int | None = None

    def setup(self):
        self.conv_first = Conv(self.features)
        self.rdbs = [RDB(self.features, name=f"rdb_{index}") for index in range(self.blocks)]

    def _chain(self, x: Array, inside: Array) -> Array:
        x = self.conv_first(x * inside)
        for rdb in self.rdbs:
            x = rdb(x, inside)
        return x

    def __call__(
        self, image: Float[Array, "b h w 3"], inside: Float[Array, "b h w 1"]
    ) -> Float[Array, "b h w {self.features}"]:
        """Features of images centred at 0 (4 x - 2 of one in [0, 1]).

        Args:
            image: images, possibly on a larger canvas.
            inside: 1 on the image, 0 on the canvas around it, which has no influence.
        """
        reach = 1 + sum(rdb.depth for rdb in self.rdbs)
        return over_bands(self, FeatureExtractor._chain, (image, inside), halo=reach)
