"""Ref-Align: extracts a reference's features and aligns them to the key-frame (paper, section 7.1)."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ldip_jax.models.layers import Conv, leaky_relu, over_bands
from ldip_jax.ops.warp import nearest


class RDB(nn.Module):
    """Residual dense block: dense 3x3 layers, 1x1 local fusion, residual (Zhang et al., CVPR 2018).

    Attributes:
        features: input and output channels.
        growth: channels that each dense layer adds.
        depth: number of dense layers.
    """

    features: int = 64
    growth: int = 16
    depth: int = 4

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], inside: Float[Array, "b h w 1"] | None = None
    ) -> Float[Array, "b h w c"]:
        """The block's output. Where `inside` is 0, every 3x3 layer sees zeros, as beyond the map's edge."""
        keep = (lambda y: y) if inside is None else (lambda y: y * inside)
        dense = keep(x)
        for index in range(self.depth):
            grown = leaky_relu(Conv(self.growth, name=f"dense_{index}")(dense))
            dense = jnp.concatenate([dense, keep(grown)], axis=-1)
        return x + Conv(self.features, kernel=1, name="local_fusion")(dense)


class FeatureExtractor(nn.Module):
    """64 features of an image at its own resolution. 119,808 parameters.

    Attributes:
        features: output channels.
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
        """Features of images in [-2, 2], that is 4 x - 2 for x in [0, 1].

        Args:
            image: images, possibly on a larger canvas.
            inside: 1 on the image, 0 on the canvas around it, which does not influence the result.
        """
        reach = 1 + sum(rdb.depth for rdb in self.rdbs)
        return over_bands(self, FeatureExtractor._chain, (image, inside), halo=reach)


class Reference(NamedTuple):
    """One reference for each key-frame of a batch; `n` of them stack on axis 1.

    Attributes:
        image: RGB in [0, 1], at the top left of a canvas that may be larger.
        size: true (height, width) of each image on the canvas.
        warp: for every HR pixel of the key-frame, its place (x, y) in pixels of the reference.
        confidence: confidence of that place, in [0, 1].
        valid: 1 for a reference, 0 for an empty slot.
    """

    image: Float[Array, "b *n h w 3"]
    size: Int[Array, "b *n 2"]
    warp: Float[Array, "b *n H W 2"]
    confidence: Float[Array, "b *n H W 1"]
    valid: Float[Array, "b *n"]


def canvas_mask(size: Int[Array, "b 2"], height: int, width: int) -> Float[Array, "b {height} {width} 1"]:
    """1 on the image, 0 on the canvas around it; `size` is the image's (height, width)."""
    rows = jnp.arange(height)[None, :, None, None] < size[:, :1, None, None]
    columns = jnp.arange(width)[None, None, :, None] < size[:, 1:, None, None]
    return (rows & columns).astype(jnp.float32)


def align(
    features: Float[Array, "b h w c"],
    size: Int[Array, "b 2"],
    warp: Float[Array, "b H W 2"],
    confidence: Float[Array, "b H W 1"],
) -> Float[Array, "b H W d"]:
    """Nearest features, sampling offset and confidence (c + 2 + 1 channels); all 0 outside the reference."""
    values, offset, inside = nearest(features, warp, size)
    confidence = jax.lax.stop_gradient(confidence) * inside
    return jnp.concatenate([values, offset.astype(values.dtype), confidence.astype(values.dtype)], axis=-1)


class RefAlign(nn.Module):
    """Extracts a reference's features; `align` then places them.

    The two are separate so that a frame can be aligned band by band from one set of features.

    Attributes:
        band_pixels: pixels per band of rows of the reference; None for the whole image at once.
    """

    band_pixels: int | None = None

    def setup(self):
        self.feature_extractor = FeatureExtractor(band_pixels=self.band_pixels)

    def __call__(self, image: Float[Array, "b h w 3"], size: Int[Array, "b 2"]) -> Float[Array, "b h w 64"]:
        """Features of references in [0, 1] at their own resolution."""
        inside = canvas_mask(size, *image.shape[1:3]).astype(image.dtype)
        return self.feature_extractor(4.0 * image - 2.0, inside)
