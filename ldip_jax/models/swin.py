"""Swin transformer block on maps of any size (Liu et al., ICCV 2021)."""

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int

from ldip_jax.models.bands import over_bands
from ldip_jax.models.layers import layer_norm
from ldip_jax.ops.windows import from_windows, relative_index, to_windows, token_labels, visible

HIDDEN = -1e9


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows, with a table of relative position biases."""

    features: int
    heads: int
    window: int

    @nn.compact
    def __call__(self, x: Float[Array, "n t c"], labels: Int[Array, "n t"]) -> Float[Array, "n t c"]:
        side = 2 * self.window - 1
        table = self.param(
            "relative_position_bias_table",
            nn.initializers.normal(0.02),
            (side * side, self.heads),
            jnp.float32,
        )
        bias = rearrange(table[relative_index(self.window)], "i j n -> n i j")
        qkv = nn.Dense(3 * self.features, name="qkv")(x)
        q, k, v = rearrange(qkv, "n t (k m d) -> k n m t d", k=3, m=self.heads)
        scale = (self.features // self.heads) ** -0.5
        scores = jnp.einsum("nmid,nmjd->nmij", q * scale, k, preferred_element_type=jnp.float32)
        scores = jnp.where(visible(labels)[:, None], scores + bias[None], HIDDEN)
        weights = nn.softmax(scores, axis=-1).astype(x.dtype)
        out = rearrange(jnp.einsum("nmij,nmjd->nmid", weights, v), "n m t d -> n t (m d)")
        return nn.Dense(self.features, name="proj")(out)


class SwinBlock(nn.Module):
    """Pre-norm window attention and MLP on a map whose sides are multiples of the window.

    Attributes:
        features: channels.
        heads: attention heads.
        window: side of a window.
        mlp_ratio: width of the MLP over `features`.
        band_pixels: pixels per band of window rows; None for the whole map at once.
    """

    features: int = 64
    heads: int = 4
    window: int = 8
    mlp_ratio: int = 2
    band_pixels: int | None = None

    def setup(self):
        self.norm1, self.norm2 = layer_norm(), layer_norm()
        self.attn = WindowAttention(self.features, self.heads, self.window)
        self.fc1, self.fc2 = nn.Dense(self.mlp_ratio * self.features), nn.Dense(self.features)

    def _chain(self, x: Array, labels: Array) -> Array:
        height, width = x.shape[1:3]
        tokens = to_windows(x, self.window)
        seen = self.attn(self.norm1(tokens), to_windows(labels, self.window)[..., 0])
        tokens = tokens + seen
        tokens = tokens + self.fc2(nn.gelu(self.fc1(self.norm2(tokens)), approximate=False))
        return from_windows(tokens, self.window, height, width)

    def __call__(
        self, x: Float[Array, "b h w c"], size: Int[Array, "2"], shifted: bool
    ) -> Float[Array, "b h w c"]:
        """One block.

        Args:
            x: padded map.
            size: true (height, width); what lies beyond is never a key.
            shifted: whether windows are moved by half a window (cyclic, the ends do not mix).
        """
        b, height, width, _ = x.shape
        shift = self.window // 2 if shifted else 0
        labels = token_labels(size, (height, width), self.window, shift)
        labels = jnp.broadcast_to(labels[None, :, :, None], (b, height, width, 1))
        if shift:
            x = jnp.roll(x, (-shift, -shift), axis=(1, 2))
        x = over_bands(self, SwinBlock._chain, (x, labels), multiple=self.window)
        return jnp.roll(x, (shift, shift), axis=(1, 2)) if shift else x
