"""Exhaustive matching of 3x3 patches of features, as in C2-Matching (Jiang et al., CVPR 2021).

Every patch of one map is compared with every patch of another one. The inner product of two patches is a sum
of nine inner products of pixels, and neighbouring patches share these. So each pair of pixels is multiplied
once, and sums along diagonals give all pairs of patches: a ninth of the multiplications.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ldip_jax.ops.bands import Bands, join_bands

SIDE = 3
"""Side of a patch, in pixels of the features."""
_LEAST = 1e-12
_LEAST_PATCH = 1e-5


def match_patches(
    features: Float[Array, "b h w c"], other: Float[Array, "b H W c"], values: int = 2**24
) -> tuple[Float[Array, "b h w 2"], Float[Array, "b h-2 w-2"]]:
    """The patch of `other` that resembles each patch of `features` most.

    All pixels are first divided by their norm, and all patches of `other` by theirs. Of equal patches, the
    first one in rows from the top left is taken.

    Args:
        features, other: maps with sides of at least 3 pixels.
        values: number of scores in memory at a time; a few arrays of that size are alive.

    Returns:
        Offsets (x, y) in pixels, from the upper left pixel of a patch to that of its match; the last two rows
        and columns, where no patch begins, are 0. And the matches' scores: cosines of the patches' angles.
    """
    if min(*features.shape[1:3], *other.shape[1:3]) < SIDE:
        raise ValueError(
            f"maps of {features.shape[1:3]} and {other.shape[1:3]} hold no patch of {SIDE}x{SIDE}"
        )
    return lax.map(lambda pair: _match(pair[0], pair[1], values), (features, other))


def tap_offsets(offsets: Float[Array, "b h w 2"]) -> Float[Array, "b h w 9 2"]:
    """The offset of each tap of a 3x3 kernel, taps row by row.

    A tap has the offset of the patch that begins as far up and left of the pixel as the tap is in the kernel;
    0 if that patch would begin outside the map.
    """
    h, w = offsets.shape[1:3]
    last = SIDE - 1
    padded = jnp.pad(offsets, ((0, 0), (last, 0), (last, 0), (0, 0)))
    taps = [padded[:, last - i :, last - j :][:, :h, :w] for i in range(SIDE) for j in range(SIDE)]
    return jnp.stack(taps, axis=3)


def _unit(x: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), _LEAST)


def _patch_norms(x: Float[Array, "h w c"]) -> Float[Array, "h-2 w-2"]:
    squares = jnp.sum(jnp.square(x), axis=-1)
    sums = lax.reduce_window(squares, 0.0, lax.add, (SIDE, SIDE), (1, 1), "VALID")
    return jnp.sqrt(sums) + _LEAST_PATCH


def _match(features: Array, other: Array, values: int) -> tuple[Array, Array]:
    features, other = _unit(features.astype(jnp.float32)), _unit(other.astype(jnp.float32))
    h, w, _ = features.shape
    high, wide = other.shape[:2]
    rate = 1.0 / _patch_norms(other)
    # Bands of columns, each with the two columns that its last patches extend to.
    columns = max(1, min(values // (high * wide) - (SIDE - 1), w - 2))
    bands = Bands(w - 2, columns, 0)

    def band(index: Array) -> tuple[Array, Array]:
        part = lax.dynamic_slice_in_dim(features, bands.starts(index)[1], columns + 2, axis=1)

        def row(sums: tuple[Array, Array], line: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
            scores = jnp.einsum("xc,ijc->xij", line, other, precision=lax.Precision.HIGHEST)
            three = scores[:-2, :, :-2] + scores[1:-1, :, 1:-1] + scores[2:, :, 2:]
            nine = (sums[0][:, :-2] + sums[1][:, 1:-1] + three[:, 2:]) * rate[None]
            flat = nine.reshape(columns, -1)
            best = jnp.max(flat, axis=1)
            # Much faster on a CPU than `argmax`, and the same: the first one wins.
            places = jnp.where(flat == best[:, None], jnp.arange(flat.shape[1])[None], flat.shape[1])
            return (sums[1], three), (jnp.min(places, axis=1), best)

        nothing = jnp.zeros((columns, high, wide - 2), jnp.float32)
        _, found = lax.scan(row, (nothing, nothing), part)
        # The first two rows have no patch above them.
        return jax.tree.map(lambda x: x[2:].T, found)

    place, score = lax.map(band, jnp.arange(bands.count))
    place, score = (join_bands(x[:, None, ..., None], bands)[0, ..., 0].T for x in (place, score))
    y, x = jnp.divmod(place, wide - 2)
    own = jnp.meshgrid(jnp.arange(w - 2), jnp.arange(h - 2))
    offset = (jnp.stack([x, y], axis=-1) - jnp.stack(own, axis=-1)).astype(jnp.float32)
    return jnp.pad(offset, ((0, 2), (0, 2), (0, 0))), score / _patch_norms(features)
