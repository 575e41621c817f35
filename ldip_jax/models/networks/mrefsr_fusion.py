"""How MRefSR uses references: sampled where they match, then weighed by attention."""

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from ldip_jax.models.layers import Conv, leaky_relu, lecun_normal, over_bands
from ldip_jax.ops.deform_conv import deform_conv

TAPS = 9
MULTIPLE = 4
"""Attention is computed on maps whose sides are multiples of this."""

SLOPE = 0.25
"""Of PReLU below 0, at the start of training."""


class DynAgg(nn.Module):
    """Modulated deformable convolution of a reference, whose offsets begin at the matches.

    Attributes:
        features: channels.
        groups: deformable groups.
    """

    features: int
    groups: int

    def setup(self):
        self.conv_offset_mask = Conv(3 * self.groups * TAPS, zero=True)
        shape = (3, 3, self.features, self.features)
        self.kernel = self.param("kernel", lecun_normal, shape, jnp.float32)
        self.bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)

    def __call__(
        self,
        reference: Float[Array, "b H W c"],
        condition: Float[Array, "b h w c"],
        matches: Float[Array, "b h w 18"],
        first_row: Array | int = 0,
    ) -> Float[Array, "b h w c"]:
        """Features of the reference, aligned.

        Args:
            reference: the whole map.
            condition: what offsets and mask are computed from; some of the rows.
            matches: offsets (x, y) of all taps, in pixels of the map.
            first_row: the row at which these two begin.
        """
        residue, mask = jnp.split(self.conv_offset_mask(condition), [2 * self.groups * TAPS], axis=-1)
        # Checkpoints store offsets as (y, x).
        residue = rearrange(residue.astype(jnp.float32), "b h w (g k n) -> b h w g k n", g=self.groups, n=2)
        start = rearrange(matches, "b h w (k n) -> b h w 1 k n", n=2)
        offsets = rearrange(start + residue[..., ::-1], "b h w g k n -> b h w (g k n)")
        options = {"padding": 1, "first_row": first_row, "band_pixels": None}
        y = deform_conv(reference, offsets, nn.sigmoid(mask), self.kernel, **options)
        return y + self.bias.astype(y.dtype)[None, None, None]


class MRAPAFusion(nn.Module):
    """Attention to the references, pixel by pixel, and a second one to what they give together.

    Attributes:
        features: channels of the image's features.
        channels: channels of the references' features.
        band_pixels: pixels per band of rows; None for the whole map.
    """

    features: int
    channels: int
    band_pixels: int | None = None

    def setup(self):
        c = self.channels
        slope = nn.initializers.constant(SLOPE)
        self.conv_emb1_0, self.conv_emb2_0 = Conv(c, kernel=1), Conv(c)
        self.conv_emb1_1 = self.param("conv_emb1_1", slope, (1,), jnp.float32)
        self.conv_emb2_1 = self.param("conv_emb2_1", slope, (1,), jnp.float32)
        self.conv_ass = Conv(2 * c)
        self.spatial_attn = Conv(2 * c, kernel=1)
        self.spatial_attn_mul1, self.spatial_attn_mul2 = Conv(2 * c), Conv(2 * c)
        self.spatial_attn_add1, self.spatial_attn_add2 = Conv(2 * c), Conv(2 * c)
        self.feat_fusion = Conv(self.features, kernel=1)

    def __call__(
        self, x: Float[Array, "b h w {self.features}"], aligned: Float[Array, "b n h w {self.channels}"]
    ) -> Float[Array, "b h w {self.features}"]:
        """The image's features with what the aligned references add."""
        count, (h, w) = aligned.shape[1], x.shape[1:3]
        pads = ((0, 0), (0, -h % MULTIPLE), (0, -w % MULTIPLE), (0, 0))
        stack = rearrange(aligned, "b n h w c -> (b n) h w c")
        x, stack = (jnp.pad(y, pads, mode="reflect") for y in (x, stack))

        def chain(module: "MRAPAFusion", x: Array, stack: Array) -> Array:
            return module._fuse(x, module._attend(x, stack, count))

        return over_bands(self, chain, (x, stack), halo=3)[:, :h, :w]

    def _attend(self, x: Array, stack: Array, count: int) -> Array:
        query = _prelu(self.conv_emb1_0(x), self.conv_emb1_1) * self.channels**-0.5
        split = lambda y: rearrange(y, "(b n) h w c -> b n h w c", n=count)  # noqa: E731
        key = split(_prelu(self.conv_emb2_0(stack), self.conv_emb2_1))
        scores = jnp.sum((query[:, None] * key).astype(jnp.float32), axis=-1, keepdims=True)
        weights = nn.softmax(scores, axis=1).astype(stack.dtype)
        return jnp.sum(weights * split(self.conv_ass(stack)), axis=1)

    def _fuse(self, x: Array, value: Array) -> Array:
        attn = leaky_relu(self.spatial_attn(jnp.concatenate([x, value], axis=-1)))
        factor = self.spatial_attn_mul2(leaky_relu(self.spatial_attn_mul1(attn)))
        added = self.spatial_attn_add2(leaky_relu(self.spatial_attn_add1(attn)))
        # Twice, so that the factor is near 1 at first.
        value = value * nn.sigmoid(factor) * 2 + added
        return leaky_relu(self.feat_fusion(jnp.concatenate([x, value], axis=-1)))


def _prelu(x: Array, slope: Array) -> Array:
    return jnp.where(x >= 0, x, slope.astype(x.dtype)[None, None, None] * x)
