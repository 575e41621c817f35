"""Flow-guided deformable alignment, BasicVSR++'s way to bring earlier features to a frame.

Optical flow gives the rough place that every tap looks at; a small network adds what is left and a weight.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.bands import over_bands
from ldip_jax.models.layers import Conv, leaky_relu
from ldip_jax.ops.deform_conv import deform_conv

GROUPS = 16
"""Deformable groups; the first half of them look at the previous frame, the others at the one before it."""
TAPS = 9
MAX_OFFSET = 10.0
"""Pixels that an offset may lead away from where the flow points."""


class DeformAlign(nn.Module):
    """Features of the two frames before, brought to the current frame.

    Attributes:
        features: channels of each frame's features.
        band_pixels: pixels per band of rows; None for the whole map.
    """

    features: int
    band_pixels: int | None = None

    def setup(self):
        self.conv_offset_0 = Conv(self.features)
        self.conv_offset_2 = Conv(self.features)
        self.conv_offset_4 = Conv(self.features)
        self.conv_offset_6 = Conv(3 * GROUPS * TAPS, zero=True)
        shape = (3, 3, 2 * self.features, self.features)
        self.kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        self.bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)

    def __call__(
        self,
        x: Float[Array, "b h w {2*self.features}"],
        condition: tuple[Float[Array, "b h w {self.features}"], ...],
        flows: Float[Array, "b h w 4"],
    ) -> Float[Array, "b h w {self.features}"]:
        """Aligned features.

        Args:
            x: features of the previous frame and of the one before it, as they are.
            condition: the first warped, the current frame's features, the second warped.
            flows: from the current frame to either, (x, y, x, y) in pixels.
        """

        def chain(module: "DeformAlign", flows: Array, rows: Array, *condition: Array) -> Array:
            offsets, mask = module.offsets(condition, flows)
            y = deform_conv(
                x, offsets, mask, module.kernel, padding=1, first_row=rows[0, 0, 0, 0], band_pixels=None
            )
            return y + module.bias.astype(y.dtype)[None, None, None]

        rows = jnp.arange(x.shape[1])[None, :, None, None]
        return over_bands(self, chain, (flows, rows, *condition), halo=4)

    def offsets(
        self, condition: tuple[Float[Array, "b h w {self.features}"], ...], flows: Float[Array, "b h w 4"]
    ) -> tuple[Float[Array, "b h w _"], Float[Array, "b h w _"]]:
        """Offsets and mask as `deform_conv` takes them."""
        x = jnp.concatenate([*condition, flows.astype(condition[0].dtype)], axis=-1)
        for layer in (self.conv_offset_0, self.conv_offset_2, self.conv_offset_4):
            x = leaky_relu(layer(x))
        residue, mask = jnp.split(self.conv_offset_6(x), [2 * GROUPS * TAPS], axis=-1)
        # Checkpoints have them as (y, x).
        residue = residue.reshape(*residue.shape[:-1], 2, -1, 2)[..., ::-1]
        places = flows.reshape(*flows.shape[:-1], 2, 1, 2) + MAX_OFFSET * jnp.tanh(
            residue.astype(jnp.float32)
        )
        return places.reshape(*flows.shape[:-1], -1), nn.sigmoid(mask)
