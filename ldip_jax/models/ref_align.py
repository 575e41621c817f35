"""Ref-Align: a reference's features at the key-frame's HR pixels (paper, section 7.2)."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ldip_jax.models.feature_extractor import FeatureExtractor
from ldip_jax.ops.warp import nearest


class Reference(NamedTuple):
    """One reference for each key-frame of a batch; `n` of them stack on axis 1.

    Attributes:
        image: RGB in [0, 1], at the top left of a canvas that may be larger.
        size: true (height, width) of each image on the canvas.
        warp: for every HR pixel of the key-frame its place (x, y) in pixels of the reference.
        confidence: how far that place is to be trusted, in [0, 1].
        valid: 1 for a reference, 0 for an empty slot.
    """

    image: Float[Array, "b *n h w 3"]
    size: Int[Array, "b *n 2"]
    warp: Float[Array, "b *n H W 2"]
    confidence: Float[Array, "b *n H W 1"]
    valid: Float[Array, "b *n"]


def canvas_mask(size: Int[Array, "b 2"], height: int, width: int) -> Float[Array, "b {height} {width} 1"]:
    """1 where the canvas holds the image, 0 around it."""
    rows = jnp.arange(height)[None, :, None, None] < size[:, :1, None, None]
    columns = jnp.arange(width)[None, None, :, None] < size[:, 1:, None, None]
    return (rows & columns).astype(jnp.float32)


def align(
    features: Float[Array, "b h w c"],
    size: Int[Array, "b 2"],
    warp: Float[Array, "b H W 2"],
    confidence: Float[Array, "b H W 1"],
) -> Float[Array, "b H W d"]:
    """Nearest features, sampling offset and confidence, c + 2 + 1 channels; all 0 outside the reference."""
    values, offset, inside = nearest(features, warp, size)
    confidence = jax.lax.stop_gradient(confidence) * inside
    return jnp.concatenate([values, offset.astype(values.dtype), confidence.astype(values.dtype)], axis=-1)


class RefAlign(nn.Module):
    """Extracts a reference's features; `align` then places them.

    The two are apart so that a frame can be aligned band by band from one set of features.

    Attributes:
        band_pixels: pixels per band of rows of the reference; None for all at once.
    """

    band_pixels: int | None = None

    def setup(self):
        self.feature_extractor = FeatureExtractor(band_pixels=self.band_pixels)

    def __call__(self, image: Float[Array, "b h w 3"], size: Int[Array, "b 2"]) -> Float[Array, "b h w 64"]:
        """Features of references in [0, 1] at their own resolution."""
        inside = canvas_mask(size, *image.shape[1:3]).astype(image.dtype)
        return self.feature_extractor(4.0 * image - 2.0, inside)
