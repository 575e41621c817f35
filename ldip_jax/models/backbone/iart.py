"""IART (Xu et al., CVPR 2024): second-order propagation through window attention over three frames.

13,410,503 parameters in the published files, of which 567,136 never run and are left out: 12,843,367 here.
"""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from ldip_jax.models.backbone.implicit_alignment import ImplicitAlignment
from ldip_jax.models.backbone.interface import Backbone
from ldip_jax.models.backbone.propagation import Branch
from ldip_jax.models.backbone.second_order import FOUR_BRANCHES, TwoFrames, no_frames
from ldip_jax.models.backbone.spynet import SPyNet
from ldip_jax.models.layers import Conv, LayerNorm
from ldip_jax.models.swin import SwinBlock
from ldip_jax.ops.warp import flow_warp

FRAMES = 3
"""What a branch looks at together: two frames behind it, and the current one between them."""


class ResidualGroup(nn.Module):
    """Swin blocks, every second one shifted, and a convolution of each frame, beside a shortcut."""

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
    """Three frames' features to the middle one's. One body, scanned over the groups' stacked parameters."""

    features: int
    groups: int
    blocks: int
    heads: int
    window: int
    mlp_ratio: int
    band_pixels: int | None

    @nn.compact
    def __call__(self, triple: Float[Array, "b 3 h w c"]) -> Float[Array, "b h w c"]:
        groups = nn.scan(
            ResidualGroup, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.groups
        )
        block = (self.features, self.blocks, self.heads, self.window, self.mlp_ratio, self.band_pixels)
        x = LayerNorm(name="patch_embed_norm")(rearrange(triple, "b d h w c -> (b d) h w c"))
        x, _ = groups(*block, name="layers")(x, None)
        middle = LayerNorm(name="norm")(x[1::FRAMES])
        return Conv(self.features, name="conv_after_body")(middle) + triple[:, 1]


class IART(Backbone):
    """Four branches in a chain, each aligning its last two outputs to the current frame by attention.

    Attributes:
        embed_dim: width of the propagated features, a multiple of 4 and of `heads`.
        groups: residual groups of a branch.
        blocks: Swin blocks of a group.
        heads: attention heads, in windows and in the alignment.
        window: side of a window.
        mlp_ratio: width of a block's MLP over `embed_dim`.
    """

    embed_dim: int = 120
    groups: int = 3
    blocks: int = 6
    heads: int = 6
    window: int = 8
    mlp_ratio: int = 2

    branches: ClassVar[tuple[Branch, ...]] = FOUR_BRANCHES
    step_cost: ClassVar[float] = 10e6

    @property
    def held_channels(self) -> int:
        """A frame's latest features, and the next branch's."""
        return 3 + 2 * self.embed_dim

    def setup(self):
        self.spynet = SPyNet()
        self.conv_first = Conv(self.embed_dim)
        # A window's scores, 3 x 3 x side^2 per pixel and head, are more than any other layer makes.
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
        return no_frames(jnp.zeros((*frame.shape[:-1], self.embed_dim), frame.dtype))

    def step(
        self,
        branch: Branch,
        carry: TwoFrames,
        inputs: tuple[Array, ...],
        flow: Float[Array, "b h w 2"],
    ) -> tuple[TwoFrames, Float[Array, "b h w c"]]:
        (current,) = inputs
        further = flow + flow_warp(carry.flow, flow)
        # Both in one batch: the alignment is compiled once.
        aligned = self.implicit_warp(
            jnp.concatenate([carry.last, carry.before]),
            jnp.concatenate([current, current]),
            jnp.concatenate([flow, further]),
        )
        one, two = jnp.split(aligned, 2)
        one = jnp.where(carry.count > 0, one, current)
        # The first frame stands in for both behind it; the second has zeros two frames behind.
        two = jnp.where(carry.count > 1, two, jnp.where(carry.count > 0, 0.0, current))
        out = self.swin_backbone[branch.name](jnp.stack([one, current, two], axis=1))
        return carry.after(out, flow), out

    def keep(self, inputs: tuple[Array, ...], out: Array) -> tuple[Array, ...]:
        """A branch starts from the one before alone."""
        return (out,)

    def reconstruct(self, inputs: tuple[Array, ...]) -> Float[Array, "b h w c"]:
        """`pre_up`: the last branch's output, brought to the head's width."""
        (features,) = inputs
        return self.conv_before_upsample(features)
