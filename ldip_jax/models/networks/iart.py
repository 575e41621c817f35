"""IART (Xu et al., CVPR 2024): second-order propagation through window attention over three frames.

The published files have 13,410,503 parameters; 567,136 of them are never used and left out: 12,843,367 here.
"""

import math
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float

from ldip_jax.models.layers import Conv, LayerNorm, dense, over_bands, stacked
from ldip_jax.models.networks.backbone import FOUR_BRANCHES, Backbone, Branch, TwoFrames, initial_state
from ldip_jax.models.networks.spynet import SPyNet
from ldip_jax.models.networks.swin import SwinBlock
from ldip_jax.ops.attention import attend_nothing, attend_one, attended_value
from ldip_jax.ops.warp import at, cell, flow_warp, pixel_grid

CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""The four pixels around a place, as (y, x) from the upper left one."""

# One pixel is a full turn in the corners' codes but half a turn in the query's: the published weights were
# trained that way.
CORNER_SPAN = np.float32(1 + 1e-6)
QUERY_SPAN = np.float32(2 + 1e-6)


def place_code(place: Float[Array, "*b 2"], span: np.float32, features: int) -> Float[Array, "*b {features}"]:
    """Interleaved sines and cosines of a place (y, x): a full turn per `span`, frequencies 1 to nearly 100.

    First half y, second half x. Float32: the last bits are lost at the highest frequencies, as they are in
    the official code.
    """
    half = features // 2
    turn = place.astype(jnp.float32) / span * np.float32(2 * math.pi)
    wavelength = np.float32(0.01) ** (2 * np.arange(half // 2, dtype=np.float32) / np.float32(half))
    angle = turn[..., None] / jnp.asarray(wavelength).reshape((1,) * turn.ndim + (-1,))
    code = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
    return code.reshape(*turn.shape[:-1], features)


def corner_codes(features: int) -> Float[Array, "4 {features}"]:
    """The codes of the four pixels in `CORNERS`."""
    return place_code(jnp.asarray(CORNERS, jnp.float32), CORNER_SPAN, features)


class ImplicitAlignment(nn.Module):
    """Features of another frame, resampled to this one.

    Attributes:
        features: channels, a multiple of 4.
        heads: attention heads.
        band_pixels: pixels per band of rows; None for the whole frame at once.
    """

    features: int
    heads: int
    band_pixels: int | None = None

    def setup(self):
        self.q, self.k, self.v = (dense(self.features) for _ in range(3))

    def __call__(
        self,
        source: Float[Array, "b h w c"],
        current: Float[Array, "b h w c"],
        flow: Float[Array, "b h w 2"],
    ) -> Float[Array, "b h w c"]:
        """`source`, sampled where `flow` points: (x, y) in pixels, from this frame to it; edges repeat."""
        size = source.shape[1], source.shape[2]
        codes = corner_codes(self.features).astype(source.dtype)

        def chain(module: ImplicitAlignment, current: Array, coords: Array) -> Array:
            b, h, w, _ = current.shape
            xi, yi, fraction = cell(coords, size)
            code = place_code(fraction[..., ::-1], QUERY_SPAN, module.features).astype(current.dtype)
            query = module.q(current + code)
            state = attend_nothing(b, h, w, module.heads, module.features)
            for (dy, dx), code in zip(CORNERS, codes, strict=True):
                token = at(source, xi + dx, yi + dy) + code[None, None, None]
                state = attend_one(state, query, module.k(token), module.v(token), jnp.ones(b))
            return attended_value(state).astype(current.dtype)

        coords = pixel_grid(*size)[None] + flow.astype(jnp.float32)
        return over_bands(self, chain, (current, coords))


FRAMES = 3
"""Frames that a branch attends to together: the two previous ones, with the current one between them."""


class ResidualGroup(nn.Module):
    """Swin blocks, every second one shifted, and a convolution of each frame, plus a shortcut."""

    features: int
    blocks: int
    heads: int
    window: int
    mlp_ratio: int
    band_pixels: int | None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], _: None = None) -> tuple[Float[Array, "n h w c"], None]:
        y = x
        for index in range(self.blocks):
            block = SwinBlock(
                self.features,
                self.heads,
                self.window,
                self.mlp_ratio,
                self.band_pixels,
                depth=FRAMES,
                zeros_seen=True,
                name=f"blocks_{index}",
            )
            y = block(y, shifted=index % 2 == 1)
        return x + Conv(self.features, name="conv")(y), None


class SwinIRFM(nn.Module):
    """From three frames' features to the middle one's; one body, scanned over groups' stacked parameters."""

    features: int
    groups: int
    blocks: int
    heads: int
    window: int
    mlp_ratio: int
    band_pixels: int | None

    @nn.compact
    def __call__(self, triple: Float[Array, "b 3 h w c"]) -> Float[Array, "b h w c"]:
        groups = stacked(self, ResidualGroup, self.groups)
        block = (self.features, self.blocks, self.heads, self.window, self.mlp_ratio, self.band_pixels)
        x = LayerNorm(name="patch_embed_norm")(rearrange(triple, "b d h w c -> (b d) h w c"))
        x, _ = groups(*block, name="layers")(x, None)
        middle = LayerNorm(name="norm")(x[1::FRAMES])
        return Conv(self.features, name="conv_after_body")(middle) + triple[:, 1]


class IART(Backbone):
    """Four branches in a chain; each aligns its last two outputs to the current frame by attention.

    Attributes:
        embed_dim: channels of the propagated features, a multiple of 4 and of `heads`.
        groups: residual groups per branch.
        blocks: Swin blocks per group.
        heads: attention heads, in windows and in the alignment.
        window: side of a window.
        mlp_ratio: width of a block's MLP divided by `embed_dim`.
    """

    embed_dim: int = 120
    groups: int = 3
    blocks: int = 6
    heads: int = 6
    window: int = 8
    mlp_ratio: int = 2

    branches: ClassVar[tuple[Branch, ...]] = FOUR_BRANCHES
    step_cost: ClassVar[float] = 10e6
    step_bytes: ClassVar[int] = 9000

    @property
    def held_channels(self) -> int:
        """Channels of a frame's latest features and of the next branch's."""
        return 3 + 2 * self.embed_dim

    def setup(self):
        self.spynet = SPyNet()
        self.conv_first = Conv(self.embed_dim)
        # A window's scores, 3 x 3 x side^2 per pixel and head, need more memory than any other layer.
        band = self.band_pixels and max(self.band_pixels // 8, 1)
        self.implicit_warp = ImplicitAlignment(self.embed_dim, self.heads, band)
        network = (self.embed_dim, self.groups, self.blocks, self.heads, self.window, self.mlp_ratio, band)
        self.swin_backbone = {branch.name: SwinIRFM(*network) for branch in self.branches}
        self.conv_before_upsample = Conv(self.mid_channels)
        self.setup_head()

    def flow(self, ref: Float[Array, "b h w 3"], supp: Float[Array, "b h w 3"]) -> Float[Array, "b h w 2"]:
        return self.spynet(ref, supp)

    def encode(self, frame: Float[Array, "b h w 3"]) -> Float[Array, "b h w c"]:
        return self.conv_first(frame)

    def carry(self, frame: Float[Array, "b h w 3"]) -> TwoFrames:
        return initial_state(jnp.zeros((*frame.shape[:-1], self.embed_dim), frame.dtype))

    def step(
        self,
        branch: Branch,
        carry: TwoFrames,
        inputs: tuple[Array, ...],
        flow: Float[Array, "b h w 2"],
    ) -> tuple[TwoFrames, Float[Array, "b h w c"]]:
        (current,) = inputs
        further = flow + flow_warp(carry.flow, flow)
        # Both in one batch, so that the alignment is compiled once.
        aligned = self.implicit_warp(
            jnp.concatenate([carry.last, carry.before]),
            jnp.concatenate([current, current]),
            jnp.concatenate([flow, further]),
        )
        one, two = jnp.split(aligned, 2)
        one = jnp.where(carry.count > 0, one, current)
        # At a branch's first frame, it replaces both previous ones; at the second, zeros replace the older.
        two = jnp.where(carry.count > 1, two, jnp.where(carry.count > 0, 0.0, current))
        out = self.swin_backbone[branch.name](jnp.stack([one, current, two], axis=1))
        return carry.after(out, flow), out

    def keep(self, inputs: tuple[Any, ...], out: Any) -> tuple[Any, ...]:
        """A branch uses only the output of the previous one."""
        return (out,)

    def reconstruct(self, inputs: tuple[Array, ...]) -> Float[Array, "b h w c"]:
        """`pre_up`: the last branch's output, with the head's number of channels."""
        (features,) = inputs
        return self.conv_before_upsample(features)
