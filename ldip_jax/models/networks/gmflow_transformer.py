"""GMFlow's transformer: within windows, each image attends to itself and then to the other image."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Int

from ldip_jax.models.layers import LayerNorm, lecun_normal, repeated


def split_windows(x: Float[Array, "b h w c"], window: tuple[int, int]) -> Float[Array, "n t c"]:
    """Split a map into windows of `window` = (rows, columns) pixels; both must divide the map's sides.

    Tokens are in reading order, and so are the windows of an image: n = (image, row, column).
    """
    rows, columns = window
    return rearrange(x, "b (i y) (j x) c -> (b i j) (y x) c", y=rows, x=columns)


def merge_windows(
    x: Float[Array, "n t c"], window: tuple[int, int], size: tuple[int, int]
) -> Float[Array, "b h w c"]:
    """The inverse of `split_windows` for maps of `size` = (h, w)."""
    rows, columns = window
    return rearrange(
        x, "(b i j) (y x) c -> b (i y) (j x) c", y=rows, x=columns, i=size[0] // rows, j=size[1] // columns
    )


def shifted_regions(
    size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]
) -> Int[np.ndarray, "n t"]:
    """Region of each token of an image after the map is rolled by -shift.

    Rolling brings opposite borders of the map into the same window. Regions differ only there, and tokens
    of different regions are not neighbours.
    """
    bands = []
    for n, w, s in zip(size, window, shift, strict=True):
        place = np.arange(n)
        bands.append((place >= n - w).astype(np.int32) + (place >= n - s))
    regions = 3 * bands[0][:, None] + bands[1]
    return rearrange(regions, "(i y) (j x) -> (i j) (y x)", y=window[0], x=window[1])


BLOCKS = 6


def sine_position(height: int, width: int, features: int) -> Float[np.ndarray, "{height} {width} {features}"]:
    """Interleaved sines and cosines of the place in a window: first half y, second half x.

    Computed in float32 throughout, as for the published weights: the last bit changes a flow by 1e-3 pixels.
    """
    half = features // 2
    wavelength = np.float32(10000.0) ** (2 * (np.arange(half, dtype=np.float32) // 2) / half)

    def code(n: int) -> np.ndarray:
        place = np.arange(1, n + 1, dtype=np.float32) / (np.float32(n) + np.float32(1e-6))
        angle = (place * np.float32(2 * math.pi))[:, None] / wavelength
        return np.where(np.arange(half) % 2 == 0, np.sin(angle), np.cos(angle))

    y = np.broadcast_to(code(height)[:, None], (height, width, half))
    x = np.broadcast_to(code(width)[None], (height, width, half))
    return np.concatenate([y, x], axis=-1)


def add_position(x: Float[Array, "b h w c"], window: tuple[int, int]) -> Float[Array, "b h w c"]:
    """`x` plus the position code of each place in its window."""
    h, w = x.shape[1:3]
    code = sine_position(*window, x.shape[-1])
    return x + np.tile(code, (h // window[0], w // window[1], 1))[None]


class Projection(nn.Module):
    """The square kernel of a projection to `features` channels."""

    features: int

    @nn.compact
    def __call__(self) -> Float[Array, "c c"]:
        return self.param("kernel", lecun_normal, (self.features, self.features), jnp.float32)


class Attention(nn.Module):
    """Single-head attention over the tokens of each window, added to `source`; after an MLP if `ffn`.

    Nothing lies between the projections of queries and keys, nor between those of values and messages, so
    each pair is applied as one.
    """

    ffn: bool

    @nn.compact
    def __call__(
        self,
        source: Float[Array, "n t c"],
        target: Float[Array, "n t c"],
        regions: Int[Array, "n t"],
    ) -> Float[Array, "n t c"]:
        c = source.shape[-1]
        dense = partial(nn.Dense, use_bias=False, kernel_init=lecun_normal)
        norm = partial(LayerNorm, use_fast_variance=False)
        to_query, to_key, to_value, merge = (
            Projection(c, name=name)() for name in ("q_proj", "k_proj", "v_proj", "merge")
        )
        key = target @ (to_key @ to_query.T / math.sqrt(c))
        scores = jnp.einsum("nqc,nkc->nqk", source, key)
        scores = jnp.where(regions[:, :, None] == regions[:, None, :], scores, scores - 100.0)
        value = target @ (to_value @ merge)
        message = norm(name="norm1")(jnp.einsum("nqk,nkc->nqc", jax.nn.softmax(scores), value))
        if self.ffn:
            message = jnp.concatenate([source, message], axis=-1)
            message = nn.gelu(dense(8 * c, name="mlp_0")(message), approximate=False)
            message = norm(name="norm2")(dense(c, name="mlp_2")(message))
        return source + message


class Block(nn.Module):
    """Attention to the image's own window, then to the window at the same place in the other image.

    A scan step over groups of windows, without a carry: takes `(source, target, regions)`, returns the new
    source.
    """

    @nn.compact
    def __call__(self, _: None, windows: tuple[Array, Array, Array]) -> tuple[None, Array]:
        source, target, regions = windows
        source = Attention(ffn=False, name="self_attn")(source, source, regions)
        return None, Attention(ffn=True, name="cross_attn_ffn")(source, target, regions)


class Transformer(nn.Module):
    """Six blocks; in odd ones the map is rolled by half a window.

    Attributes:
        group: tokens processed at a time, but at least one window. A few thousand keep the MLP's hidden
            layer in a CPU's cache, which halves the time, and need little memory.
    """

    group: int = 2304

    @nn.compact
    def __call__(self, x: Float[Array, "b2 h w c"], window: tuple[int, int]) -> Float[Array, "b2 h w c"]:
        """The two halves of the batch attend to each other in pairs."""
        size = (x.shape[1], x.shape[2])
        shift = (window[0] // 2, window[1] // 2)
        regions = np.tile(shifted_regions(size, window, shift), (x.shape[0], 1))
        count, tokens = regions.shape
        per_group = max(
            n for n in range(1, count + 1) if count % n == 0 and (n == 1 or n * tokens <= self.group)
        )
        grouped = partial(rearrange, pattern="(g n) ... -> g n ...", n=per_group)
        block = repeated(self, Block)
        for i in range(BLOCKS):
            if i % 2:
                x = jnp.roll(x, (-shift[0], -shift[1]), axis=(1, 2))
            source = split_windows(x, window)
            target = jnp.roll(source, count // 2, axis=0)
            seen = jnp.asarray(regions if i % 2 else np.zeros_like(regions))
            _, source = block(name=f"layers_{i}")(None, (grouped(source), grouped(target), grouped(seen)))
            x = merge_windows(rearrange(source, "g n t c -> (g n) t c"), window, size)
            if i % 2:
                x = jnp.roll(x, shift, axis=(1, 2))
        return x
