"""Optical-flow networks that can lead HRIP in place of the backbone's own."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.backbone.spynet import SPyNet
from ldip_jax.models.gmflow.gmflow import GMFlow, extend, gmflow_size
from ldip_jax.models.ldip import hr_flow
from ldip_jax.models.raft.raft import RAFT
from ldip_jax.ops.resize import resize_bicubic


class OneWayGMFlow(GMFlow):
    """GMFlow from `ref` to `supp` alone, images of any size; the same parameters."""

    def __call__(
        self, ref: Float[Array, "b h w 3"], supp: Float[Array, "b h w 3"]
    ) -> Float[Array, "b h w 2"]:
        """Flow (x, y) in pixels, float32; found at `gmflow_size`, where the network is at its best."""
        size = ref.shape[1], ref.shape[2]
        h, w = gmflow_size(size)
        with jax.default_matmul_precision("highest"):
            a, b = (jnp.clip(resize_bicubic(x.astype(jnp.float32), (h, w)), 0.0, 1.0) for x in (ref, supp))
            forward, _ = super().__call__(extend(a), extend(b))
            return hr_flow(forward[:, :h, :w], size)


FLOWS = {"spynet": SPyNet, "raft": RAFT, "gmflow": OneWayGMFlow}
"""Modules from (ref, supp) to flow, by the name of the network in `weights/`."""
