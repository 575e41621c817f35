"""HRIP: refined detail is passed from frame to frame at high resolution (paper, section 7.3)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.layers import Conv, LayerNorm, over_bands, stacked
from ldip_jax.models.networks.swin import SwinBlock
from ldip_jax.ops.warp import nearest, pixel_grid


class SwinPair(nn.Module):
    """A Swin block and a shifted one. The cell scans its pairs, with parameters stacked on axis 0."""

    features: int
    heads: int
    window: int
    mlp_ratio: int
    band_pixels: int | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], _: None) -> tuple[Float[Array, "b h w c"], None]:
        block = (self.features, self.heads, self.window, self.mlp_ratio, self.band_pixels)
        x = SwinBlock(*block, name="unshifted")(x, shifted=False)
        return SwinBlock(*block, name="shifted")(x, shifted=True), None


class HRIPCell(nn.Module):
    """One frame of one direction. 386,976 parameters.

    Attributes:
        features: inner channels.
        blocks: Swin blocks; every second one is shifted.
        heads, window, mlp_ratio: of the Swin blocks.
        band_pixels: pixels per band of rows; None for the whole frame at once.
    """

    features: int = 64
    blocks: int = 8
    heads: int = 4
    window: int = 8
    mlp_ratio: int = 2
    band_pixels: int | None = None

    def setup(self):
        self.conv_in = Conv(self.features, winograd=True)
        block = (self.features, self.heads, self.window, self.mlp_ratio, self.band_pixels)
        self.swin = stacked(self, SwinPair, self.blocks // 2)(*block)
        self.norm = LayerNorm()
        self.conv_last = Conv(64, winograd=True, zero=True)

    def __call__(
        self,
        current: Float[Array, "b H W 64"],
        previous: Float[Array, "b H W 64"],
        flow: Float[Array, "b H W 2"],
    ) -> Float[Array, "b H W 64"]:
        """The residual of the current frame's features. All features are in LRRF's scale.

        Args:
            current: this frame's features.
            previous: refined features of the previous frame in this direction; zeros at the first frame.
            flow: from this frame to the previous one, (x, y) in HR pixels; zeros at the first frame.
        """
        height, width = current.shape[1:3]

        def enter(module, current, coords):
            warped, offset, _ = nearest(previous, coords)
            return module.conv_in(jnp.concatenate([current, warped, offset.astype(current.dtype)], axis=-1))

        coords = pixel_grid(height, width)[None] + flow.astype(jnp.float32)
        x = over_bands(self, enter, (current, coords), halo=1)
        x, _ = self.swin(x, None)
        return over_bands(self, lambda module, x: module.conv_last(module.norm(x)), (x,), halo=1)


class HRIP(nn.Module):
    """A backward and a forward cell, each with its own weights; `step` runs one frame of either.

    Attributes:
        band_pixels: pixels per band of rows; None for the whole frame at once.
    """

    band_pixels: int | None = None

    def setup(self):
        self.backward = HRIPCell(band_pixels=self.band_pixels)
        self.forward = HRIPCell(band_pixels=self.band_pixels)

    def step(
        self,
        reverse: bool,
        current: Float[Array, "b H W 64"],
        previous: Float[Array, "b H W 64"],
        flow: Float[Array, "b H W 2"],
    ) -> Float[Array, "b H W 64"]:
        """The residual of one frame in the backward (`reverse`) or the forward pass; see `HRIPCell`."""
        return (self.backward if reverse else self.forward)(current, previous, flow)
