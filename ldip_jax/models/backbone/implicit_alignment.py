"""IART's alignment: attention to the four pixels around a place takes the part of interpolation.

Xu et al., "Enhancing Video Super-Resolution via Implicit Resampling-based Alignment", CVPR 2024.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.models.bands import over_bands
from ldip_jax.models.layers import dense
from ldip_jax.ops.attention import attend_nothing, attend_one, attended_value
from ldip_jax.ops.warp import at, cell, pixel_grid

CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""The four pixels, (y, x) from the one up and left."""

# A whole pixel is a full turn for the corners' codes, but half a turn for the query's: so were the published
# weights trained.
CORNER_SPAN = np.float32(1 + 1e-6)
QUERY_SPAN = np.float32(2 + 1e-6)


def place_code(place: Float[Array, "*b 2"], span: np.float32, features: int) -> Float[Array, "*b {features}"]:
    """Sines and cosines, interleaved, of a place (y, x); a full turn per `span`, frequencies 1 to nearly 100.

    First half y, second half x. Float32: at the highest frequencies the last bits are lost, officially too.
    """
    half = features // 2
    turn = place.astype(jnp.float32) / span * np.float32(2 * math.pi)
    wavelength = np.float32(0.01) ** (2 * np.arange(half // 2, dtype=np.float32) / np.float32(half))
    angle = turn[..., None] / jnp.asarray(wavelength).reshape((1,) * turn.ndim + (-1,))
    code = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
    return code.reshape(*turn.shape[:-1], features)


def corner_codes(features: int) -> Float[Array, "4 {features}"]:
    """The codes of the four pixels."""
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
        other: Float[Array, "b h w c"],
        current: Float[Array, "b h w c"],
        flow: Float[Array, "b h w 2"],
    ) -> Float[Array, "b h w c"]:
        """`other` where `flow` (x, y in pixels, from this frame to the other) leads, edges held."""
        size = other.shape[1], other.shape[2]
        codes = corner_codes(self.features).astype(other.dtype)

        def chain(module: ImplicitAlignment, current: Array, coords: Array) -> Array:
            b, h, w, _ = current.shape
            xi, yi, fraction = cell(coords, size)
            code = place_code(fraction[..., ::-1], QUERY_SPAN, module.features).astype(current.dtype)
            query = module.q(current + code)
            state = attend_nothing(b, h, w, module.heads, module.features)
            for (dy, dx), code in zip(CORNERS, codes, strict=True):
                token = at(other, xi + dx, yi + dy) + code[None, None, None]
                state = attend_one(state, query, module.k(token), module.v(token), jnp.ones(b))
            return attended_value(state).astype(current.dtype)

        coords = pixel_grid(*size)[None] + flow.astype(jnp.float32)
        return over_bands(self, chain, (current, coords))
