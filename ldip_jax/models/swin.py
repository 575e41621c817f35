"""Swin transformer block on maps of any size (Liu et al., ICCV 2021)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from ldip_jax.models.bands import over_bands
from ldip_jax.models.layers import layer_norm
from ldip_jax.ops.windows import from_windows, pad_to_windows, relative_index, to_windows

HIDDEN = -1e9


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows, with a table of relative position biases."""

    features: int
    heads: int
    window: int

    @nn.compact
    def __call__(self, x: Float[Array, "n t c"], real: Float[Array, "n t 1"] | None) -> Float[Array, "n t c"]:
        """Where `real` is 0, a token is nobody's key; None: all are real."""
        side = 2 * self.window - 1
        init = nn.initializers.normal(0.02)
        table = self.param("relative_position_bias_table", init, (side * side, self.heads), jnp.float32)
        bias = rearrange(table[relative_index(self.window)], "i j n -> 1 n i j")
        if real is not None:
            bias = bias + HIDDEN * (1.0 - rearrange(real, "n j 1 -> n 1 1 j"))
        qkv = nn.Dense(3 * self.features, name="qkv")(x)
        q, k, v = rearrange(qkv, "n t (k m d) -> k n m t d", k=3, m=self.heads)
        scale = (self.features // self.heads) ** -0.5
        scores = jnp.einsum("nmid,nmjd->nmij", q * scale, k, preferred_element_type=jnp.float32)
        weights = nn.softmax(scores + bias, axis=-1).astype(x.dtype)
        out = rearrange(jnp.einsum("nmij,nmjd->nmid", weights, v), "n m t d -> n t (m d)")
        return nn.Dense(self.features, name="proj")(out)


def gelu(x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    """Exact GELU through erf, which costs half of erfc on a CPU."""
    return 0.5 * x * (1.0 + jax.lax.erf(x * 2.0**-0.5))


class SwinBlock(nn.Module):
    """Pre-norm window attention and MLP on a map of any size.

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

    def _chain(self, x: Array, real: Array | None = None) -> Array:
        height, width = x.shape[1:3]
        tokens = to_windows(x, self.window)
        if real is not None:
            real = to_windows(jnp.broadcast_to(real, (*x.shape[:3], 1)), self.window)
        tokens = tokens + self.attn(self.norm1(tokens), real)
        tokens = tokens + self.fc2(gelu(self.fc1(self.norm2(tokens))))
        return from_windows(tokens, self.window, height, width)

    def __call__(self, x: Float[Array, "b h w c"], shifted: bool) -> Float[Array, "b h w c"]:
        """One block; `shifted` moves the windows by half of their side."""
        height, width = x.shape[1:3]
        shift = self.window // 2 if shifted else 0
        padded, real = pad_to_windows(x, self.window, shift)
        maps = (padded,) if real is None else (padded, real)
        y = over_bands(self, SwinBlock._chain, maps, multiple=self.window)
        return y[:, shift : shift + height, shift : shift + width]
