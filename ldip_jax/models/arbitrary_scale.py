"""The arbitrary-scale head and its decoder (paper, section 7.4)."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ldip_jax.models.decoder import decode_detail
from ldip_jax.models.layers import Conv, over_bands
from ldip_jax.models.ref_align import RDB
from ldip_jax.ops.grid import Grid, grid_offsets, sample_bicubic, sample_nearest, whole_grid


class ArbitraryScale(nn.Module):
    """HR features on any grid from a frame's LR features; replaces the backbone's x4. 157,248 parameters.

    Attributes:
        features: output channels.
        blocks: residual dense blocks.
        pixel_size: whether the size of an HR pixel is an input (2 more channels).
        band_pixels: HR pixels per band of rows; None for the whole frame at once.
    """

    features: int = 64
    blocks: int = 2
    pixel_size: bool = True
    band_pixels: int | None = None

    def setup(self):
        self.conv_first = Conv(self.features)
        self.rdbs = [RDB(self.features, name=f"rdb_{index}") for index in range(self.blocks)]

    def _chain(self, x: Array) -> Array:
        x = self.conv_first(x)
        for rdb in self.rdbs:
            x = rdb(x)
        return x

    def __call__(self, features: Float[Array, "b h w c"], grid: Grid) -> Float[Array, "b H W 64"]:
        """HR features at the grid's pixels, from the nearest LR feature, its offset and the pixel's size."""
        offsets = grid_offsets(grid)
        batch = features.shape[0]

        def chain(module: ArbitraryScale, offset: Array, row: Array) -> Array:
            here = Grid(grid.rows._replace(index=row[0, :, 0, 0]), grid.columns)
            inputs = [
                sample_nearest(features, here),
                jnp.repeat(offset, batch, axis=0).astype(features.dtype),
            ]
            if module.pixel_size:
                size = jnp.stack([grid.columns.pixel, grid.rows.pixel]).astype(features.dtype)
                inputs.append(jnp.broadcast_to(size[None, None, None], inputs[1].shape))
            return module._chain(jnp.concatenate(inputs, axis=-1))

        reach = 1 + sum(rdb.depth for rdb in self.rdbs)
        return over_bands(self, chain, (offsets, grid.rows.index[None, :, None, None]), halo=reach)


class ArbitraryScaleDecoder(nn.Module):
    """From HR features on any grid to the image, as detail on a bicubic base. 38,659 parameters."""

    band_pixels: int | None = None

    def setup(self):
        self.conv_hr = Conv(64, winograd=True)
        self.conv_last = Conv(3)

    def __call__(
        self, hr: Float[Array, "b H W 64"], frame: Float[Array, "b h w 3"], grid: Grid, hook: str = "hr_pre"
    ) -> Float[Array, "b H W 3"]:
        """The image (not clamped) from features at `hook`; `frame` is the LR frame under the grid."""
        return decode_detail(self, hr, hook) + sample_bicubic(frame.astype(jnp.float32), grid)


def init_head(head: ArbitraryScale, key: PRNGKeyArray) -> Mapping[str, Any]:
    """Untrained parameters of the head; their shapes do not depend on the image size."""
    return head.init(key, jnp.zeros((1, 4, 4, 64)), whole_grid((4, 4), (8, 8)))["params"]


def init_decoder(decoder: ArbitraryScaleDecoder, key: PRNGKeyArray) -> Mapping[str, Any]:
    """Untrained parameters of the decoder."""
    hr, frame = jnp.zeros((1, 8, 8, 64)), jnp.zeros((1, 4, 4, 3))
    return decoder.init(key, hr, frame, whole_grid((4, 4), (8, 8)))["params"]
