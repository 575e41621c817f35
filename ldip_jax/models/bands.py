"""Running a chain of layers over bands of rows instead of the whole map."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from ldip_jax.ops.bands import crop_band, join_bands, plan_bands, read_band


def over_bands(
    module: nn.Module,
    chain: Callable[..., Any],
    maps: tuple[Shaped[Array, "_ h _ _"], ...],
    *,
    halo: int = 0,
    multiple: int = 1,
    scale: int = 1,
) -> Any:
    """`chain(module, *maps)`, computed band by band; equal to the whole map at once.

    The backward pass computes a chain anew from its maps, all that is kept of it: less memory, and on a CPU
    less time too.

    Args:
        module: owner of the layers; its `band_pixels` is the size of a band (None: the whole map).
        chain: function of the module and its maps to one map or a tuple of maps, `scale` times as high
            as what it gets. It must not look further than `halo` rows.
        maps: arrays of the same height; the first has the frame's width.
        halo: rows that the chain reaches up and down.
        multiple: bands begin at multiples of this many rows.
        scale: rows out per row in.
    """
    height, width = maps[0].shape[1:3]
    bands = plan_bands(height, width, module.band_pixels, halo, multiple)
    if bands is None:
        return nn.remat(chain, prevent_cse=False)(module, *maps)

    def one(module: nn.Module, carry: None, index: Array) -> tuple[None, Any]:
        out = chain(module, *(read_band(x, bands, index) for x in maps))
        return carry, jax.tree.map(lambda y: crop_band(y, bands, index, scale), out)

    # Around the reading too: what is kept is the maps, not a copy of their bands.
    scan = nn.scan(
        nn.remat(one, prevent_cse=False), variable_broadcast="params", split_rngs={"params": False}
    )
    _, out = scan(module, None, jnp.arange(bands.count))
    return jax.tree.map(lambda y: join_bands(y, bands, scale), out)
