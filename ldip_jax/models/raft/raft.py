"""RAFT: optical flow by looking up similarities again and again (Teed and Deng, ECCV 2020).

5,257,536 trained parameters, or 990,162 in the small variant, and the statistics of the large one's batch
normalisation.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.gmflow.upsampling import convex_upsample
from ldip_jax.models.raft.correlation import correlation_pyramid, look_up
from ldip_jax.models.raft.encoder import Encoder
from ldip_jax.models.raft.update import MaskPredictor, UpdateBlock
from ldip_jax.ops.resize import resize_align_corners
from ldip_jax.ops.warp import pixel_grid

STRIDE = 8
SHORTEST = 128
"""Below this the coarsest similarities would be single pixels."""


class RAFT(nn.Module):
    """Optical flow from `ref` to `supp`: `flow_warp(supp, flow)` resembles `ref`.

    Attributes:
        small: the small variant.
        updates: how often the flow is corrected.
    """

    small: bool = False
    updates: int = 12

    def setup(self):
        if self.small:
            self.hidden, self.radius = 96, 3
            self.feature_encoder = Encoder((32, 32, 64, 96, 128), "instance", bottleneck=True)
            self.context_encoder = Encoder((32, 32, 64, 96, 160), "none", bottleneck=True)
            self.update_block = UpdateBlock(((96,), (64, 32), 82), 96, ((3, 3),), 128)
        else:
            self.hidden, self.radius = 128, 4
            self.feature_encoder = Encoder((64, 64, 96, 128, 256), "instance", bottleneck=False)
            self.context_encoder = Encoder((64, 64, 96, 128, 256), "batch", bottleneck=False)
            self.update_block = UpdateBlock(((256, 192), (128, 64), 128), 128, ((1, 5), (5, 1)), 256)
            self.mask_predictor = MaskPredictor()

    def __call__(
        self, ref: Float[Array, "b h w 3"], supp: Float[Array, "b h w 3"]
    ) -> Float[Array, "b h w 2"]:
        """Flow (x, y) in pixels, float32, at the highest matmul precision. Images in [0, 1], any size.

        Sides are extended by replication to multiples of 8, at least 128.
        """
        h, w = ref.shape[1:3]
        pads = [(0, 0), *((0, max(side + -side % STRIDE, SHORTEST) - side) for side in (h, w)), (0, 0)]
        images = jnp.concatenate([ref, supp]).astype(jnp.float32)
        images = 2.0 * jnp.pad(images, pads, mode="edge") - 1.0
        with jax.default_matmul_precision("highest"):
            return self._flow(images)[:, :h, :w]

    def _flow(self, images: Float[Array, "n h w 3"]) -> Float[Array, "b h w 2"]:
        a, b = jnp.split(self.feature_encoder(images), 2)
        pyramid = correlation_pyramid(a, b)
        state = self.context_encoder(images[: len(a)])
        hidden, context = nn.tanh(state[..., : self.hidden]), nn.relu(state[..., self.hidden :])
        own = pixel_grid(a.shape[1], a.shape[2])[None]

        def update(net: RAFT, carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
            hidden, flow = carry
            seen = look_up(pyramid, own + flow, net.radius)
            hidden, change = net.update_block(hidden, context, seen, flow)
            return (hidden, flow + change), None

        repeat = nn.scan(
            update, variable_broadcast="params", split_rngs={"params": False}, length=self.updates
        )
        (hidden, flow), _ = repeat(self, (hidden, jnp.zeros((*a.shape[:-1], 2), jnp.float32)), None)
        if not self.small:
            return convex_upsample(flow, self.mask_predictor(hidden))
        return STRIDE * resize_align_corners(flow, (STRIDE * a.shape[1], STRIDE * a.shape[2]))
