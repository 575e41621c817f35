"""GMFlow with one refinement step: dense correspondences between two images, both ways in one pass.

Xu et al., "GMFlow: Learning Optical Flow via Global Matching", CVPR 2022. At 1/8 of the size every pixel is
compared with every pixel of the other image; at 1/4 the match is refined within 4 pixels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.backbone.spynet import IMAGENET_MEAN, IMAGENET_STD
from ldip_jax.models.gmflow.encoder import Encoder
from ldip_jax.models.gmflow.matching import global_matching, local_matching
from ldip_jax.models.gmflow.propagation import Propagation
from ldip_jax.models.gmflow.transformer import Transformer, add_position
from ldip_jax.models.gmflow.upsampling import convex_upsample
from ldip_jax.models.layers import Conv
from ldip_jax.ops.resize import resize_align_corners
from ldip_jax.ops.warp import flow_warp

MULTIPLE = 32
# Bounds of the longer side. Below 512 the network is off by a pixel and more even between shifted copies, and
# at 128 it finds next to nothing; small images are enlarged instead.
LONGEST = 640
SHORTEST = 512


def gmflow_size(size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) in the proportions of `size`, its longer side brought into [512, 640]."""
    longest = max(size)
    target = max(min(LONGEST, longest), SHORTEST)
    h, w = (max(1, round(side * target / longest)) for side in size)
    return h, w


def extend(image: Float[Array, "b h w 3"]) -> Float[Array, "b H W 3"]:
    """Padded below and to the right, by replication, to multiples of 32."""
    h, w = image.shape[1:3]
    return jnp.pad(image, ((0, 0), (0, -h % MULTIPLE), (0, -w % MULTIPLE), (0, 0)), mode="edge")


def _windows(x: Array, splits: int) -> tuple[int, int]:
    """Window size that cuts a map into splits x splits: it grows with the image."""
    return x.shape[1] // splits, x.shape[2] // splits


class GMFlow(nn.Module):
    """4,716,720 parameters, named as in the published checkpoint."""

    @nn.compact
    def __call__(
        self, a: Float[Array, "b h w 3"], b: Float[Array, "b h w 3"]
    ) -> tuple[Float[Array, "b h w 2"], Float[Array, "b h w 2"]]:
        """Flow in pixels, (x, y): `flow_warp(b, forward)` looks like `a`, `flow_warp(a, backward)` like `b`.

        Args:
            a, b: RGB in [0, 1]; sides are multiples of 32.

        Returns:
            forward, backward: float32; everything is computed at the highest matmul precision.
        """
        if a.shape[1] % MULTIPLE or a.shape[2] % MULTIPLE:
            raise ValueError(f"sides must be multiples of {MULTIPLE}, not {a.shape[1:3]}")
        with jax.default_matmul_precision("highest"):
            mean, std = (jnp.array([[[constant]]]) for constant in (IMAGENET_MEAN, IMAGENET_STD))
            flow = self._bidirectional((jnp.concatenate([a, b]) - mean) / std)
        forward, backward = jnp.split(flow, 2)
        return forward, backward

    def _bidirectional(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n h w 2"]:
        fine, coarse = Encoder(name="backbone")(images)
        transformer = Transformer(name="transformer")
        propagate = Propagation(name="feature_flow_attn")

        window = _windows(coarse, 2)
        coarse = transformer(add_position(coarse, window), window)
        flow = propagate(coarse, global_matching(*jnp.split(coarse, 2)), local=False)

        flow = 2.0 * resize_align_corners(flow, (fine.shape[1], fine.shape[2]))
        window = _windows(fine, 8)
        other = flow_warp(jnp.roll(fine, fine.shape[0] // 2, axis=0), flow)
        pair = add_position(jnp.concatenate([fine, other]), window)
        fine, other = jnp.split(transformer(pair, window), 2)
        flow = propagate(fine, flow + local_matching(fine, other), local=True)

        logits = nn.relu(Conv(256, name="upsampler_0")(jnp.concatenate([flow, fine], axis=-1)))
        return convex_upsample(flow, Conv(144, kernel=1, name="upsampler_2")(logits))
