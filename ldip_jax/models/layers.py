"""Layers shared by several components, and a way to run a chain of them over bands of rows."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Shaped

from ldip_jax.ops.bands import crop_band, join_bands, plan_bands, read_band
from ldip_jax.ops.conv import conv2d

leaky_relu = partial(nn.leaky_relu, negative_slope=0.1)


def _as_input(*arrays: Any, dtype: Any = None, inexact: bool = True) -> list[Any]:
    """An input and parameters, the latter cast to the input's type."""
    del dtype, inexact
    return [None if array is None else array.astype(arrays[0].dtype) for array in arrays]


# Flax traces the initialiser of every parameter at every call, to compare shapes; this one is traced once.
lecun_normal = jax.jit(nn.initializers.lecun_normal(), static_argnums=(1, 2))

# Flax would compute in float32, the parameters' type.
dense = partial(nn.Dense, promote_dtype=_as_input, kernel_init=lecun_normal)


class LayerNorm(nn.LayerNorm):
    """Flax's layer norm, with sums in float32 and the result in the input's type."""

    epsilon: float = 1e-5

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        return super().__call__(x).astype(x.dtype)


class Conv(nn.Module):
    """Convolution with zero padding and bias.

    Attributes:
        features: output channels.
        kernel: side of the square kernel, or height and width (odd).
        stride: 1, or 2 to halve the map (padding as in torch: kernel // 2 on every side).
        use_bias: whether a bias is added.
        winograd: whether a CPU may use a faster algorithm with larger rounding errors; see `conv2d`.
        zero: start with a zero kernel, so that the layer's output is zero at first.
        dtype: compute type, by default that of the input; parameters are float32.
    """

    features: int
    kernel: int | tuple[int, int] = 3
    stride: int = 1
    use_bias: bool = True
    winograd: bool = False
    zero: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W {self.features}"]:
        init = nn.initializers.zeros if self.zero else lecun_normal
        dtype = self.dtype or x.dtype
        sides = (self.kernel, self.kernel) if isinstance(self.kernel, int) else self.kernel
        shape = (*sides, x.shape[-1], self.features)
        kernel = self.param("kernel", init, shape, jnp.float32)
        y = conv2d(x.astype(dtype), kernel, self.stride, self.winograd)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + bias.astype(dtype)[None, None, None]
        return y


def pixel_shuffle(x: Float[Array, "b h w c"], r: int = 2) -> Float[Array, "b H W C"]:
    """out[r y + i, r x + j, c] = in[y, x, c r^2 + i r + j]."""
    return rearrange(x, "b h w (c i j) -> b (h i) (w j) c", i=r, j=r)


def _once(owner: nn.Module) -> dict[str, bool]:
    """Options of a scan that trace its body only once.

    Flax traces it once more, so that the body may make parameters. Scans lie within scans, and each level
    would double the time, so this is done only where parameters are made.
    """
    return {"check_constancy_invariants": owner.is_initializing()}


def stacked(owner: nn.Module, layer: type[nn.Module], count: int) -> Any:
    """A module class: `count` such layers in a row, their parameters stacked on axis 0, as a part of `owner`.

    They are scanned, so that one body is compiled for all of them.
    """
    options = {"length": count, **_once(owner)}
    return nn.scan(layer, variable_axes={"params": 0}, split_rngs={"params": True}, **options)


def repeated(owner: nn.Module, body: Callable[..., Any], **options: Any) -> Any:
    """Lift `body`, a module class or `body(module, carry, inputs)`, to a scan whose steps share parameters.

    Args:
        owner: the module that makes the scan.
        body: what is repeated.
        options: further arguments of `flax.linen.scan`.
    """
    options |= _once(owner)
    return nn.scan(body, variable_broadcast="params", split_rngs={"params": False}, **options)


def over_bands(
    module: nn.Module,
    chain: Callable[..., Any],
    maps: tuple[Shaped[Array, "_ h _ _"], ...],
    *,
    halo: int = 0,
    multiple: int = 1,
    scale: int = 1,
    halos: int = 8,
) -> Any:
    """`chain(module, *maps)`, computed band by band; the result equals that of the whole map at once.

    Only the maps are kept for the backward pass, which recomputes the chain from them. This takes less
    memory, and on a CPU also less time.

    Args:
        module: owner of the layers; its `band_pixels` is the size of a band (None: the whole map).
        chain: takes the module and the maps; returns one map or a tuple of maps, `scale` times as high.
            An output row must not depend on rows further away than `halo`.
        maps: arrays of the same height; the first has the frame's width.
        halo: rows above and below that an output row depends on.
        multiple: bands begin at multiples of this many rows.
        scale: output rows per input row.
        halos: a band has at least this many times as many rows as its halo.
    """
    height, width = maps[0].shape[1:3]
    bands = plan_bands(height, width, module.band_pixels, halo, multiple, halos)
    if bands is None:
        return nn.remat(chain, prevent_cse=False)(module, *maps)

    def one(module: nn.Module, carry: None, index: Array) -> tuple[None, Any]:
        out = chain(module, *(read_band(x, bands, index) for x in maps))
        return carry, jax.tree.map(lambda y: crop_band(y, bands, index, scale), out)

    # Reading is inside the remat, so that the maps are kept and not copies of their bands.
    scan = repeated(module, nn.remat(one, prevent_cse=False))
    _, out = scan(module, None, jnp.arange(bands.count))
    return jax.tree.map(lambda y: join_bands(y, bands, scale), out)
