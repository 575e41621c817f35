"""How well motion is kept: tOF (Chu et al., "TecoGAN", 2020) with SPyNet as the optical flow."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.models.backbone.spynet import SPyNet

Frame = Float[np.ndarray, "h w 3"]


@jax.jit
def tof(
    params: dict[str, Any],
    truth: Float[Array, "2 h w 3"],
    result: Float[Array, "2 h w 3"],
) -> Float[Array, ""]:
    """How far the flow between two frames of the result is from that of the truth, mean in pixels.

    Lower is better; 0 where the result is the truth. Published tables use another flow network: compare with
    numbers of this one alone.

    Args:
        params: SPyNet's.
        truth, result: a frame and the next, RGB in [0, 1].
    """
    frames = jnp.stack([truth, result], axis=1)
    flow = cast(Array, SPyNet().apply({"params": params}, frames[0], frames[1]))
    return jnp.mean(jnp.sqrt(jnp.sum(jnp.square(flow[0] - flow[1]), axis=-1)))


class TemporalScore:
    """tOF of a clip whose frames come one after the other."""

    def __init__(self, spynet: dict[str, Any]):
        self._params = jax.device_put(spynet)
        self._last: tuple[int, Frame, Frame] | None = None

    def __call__(self, place: int, truth: Frame, result: Frame) -> float | None:
        """The score between the frame before and this one; None where that one was not given."""
        last, self._last = self._last, (place, truth, result)
        if last is None or last[0] != place - 1:
            return None
        return float(tof(self._params, np.stack([last[1], truth]), np.stack([last[2], result])))
