"""The compiled programs that inference is made of: one frame, one pair or one reference at a time.

None depends on the number of frames, key-frames or references: a clip of any length reuses them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.ldip import LDIP, hr_flow
from ldip_jax.ops.resize import resize_bicubic


def _propagate(net: LDIP, reverse, current, previous, flow):
    return net.lrrf.propagate(reverse, current, previous, hr_flow(flow, current.shape[1:3]))


class Programs:
    """`LDIP`'s methods, jitted, with their parameters on the device; every array has a batch axis of 1.

    Attributes:
        flow: (ref, supp) -> the backbone's optical flow.
        encode: frame -> its encoding, and the state before the first frame of a branch.
        step: (branch, carry, inputs, flow) -> carry, output; one frame of the backbone's recurrence.
        reconstruct: inputs -> LR features.
        upscale: (LR features, grid or None) -> HR features.
        decode: (HR features, frame, grid or None) -> image, not clamped.
        query: HR features -> a key-frame's query.
        start: query -> a layer's empty state.
        absorb: (layer, query, state, reference) -> state, with one more reference; uses up the state.
        fuse: (layer, query, state) -> query after the layer; uses up the query.
        finish: (HR features, query, highest confidence, validity) -> refined HR features.
        propagate: (reverse, current, previous, LR flow) -> refined HR features; one frame of HRIP.
    """

    def __init__(self, net: LDIP, params: dict[str, Any]):
        self.net = net
        self._params = jax.device_put(params)
        self.flow = self._compile(lambda net, *args: net.backbone.flow(*args))
        self.encode = self._compile(lambda net, x: (net.backbone.encode(x), net.backbone.carry(x)))
        self.step = self._compile(lambda net, *args: net.backbone.step(*args), static=True)
        self.reconstruct = self._compile(lambda net, inputs: net.backbone.reconstruct(inputs))
        self.upscale = self._compile(LDIP.upscale)
        self.decode = self._compile(LDIP.decode)
        self.query = self._compile(lambda net, hr: net.lrrf.query(hr))
        self.start = self._compile(lambda net, query: net.lrrf.start(query))
        self.absorb = self._compile(lambda net, *args: net.lrrf.absorb(*args), static=True, donate=3)
        self.fuse = self._compile(lambda net, *args: net.lrrf.fuse(*args), static=True, donate=2)
        self.finish = self._compile(lambda net, *args: net.lrrf.finish(*args))
        self.propagate = self._compile(_propagate, static=True)

    def _compile(self, method: Callable, static: bool = False, donate: int | None = None) -> Callable:
        """Jit a method; its first argument may be `static`, and argument `donate` be used up."""

        def run(params, *args):
            return self.net.apply({"params": params}, *args, method=method)

        jitted = jax.jit(run, static_argnums=1 if static else None, donate_argnums=donate)
        return partial(jitted, self._params)


@jax.jit
def subtract(refined: Float[Array, "1 H W 64"], hr: Float[Array, "1 H W 64"]) -> Array:
    """What a pass added to a frame's features, bfloat16: kept for every frame between the passes."""
    return (refined - hr).astype(jnp.bfloat16)


@jax.jit
def add(hr: Float[Array, "1 H W 64"], residual: Array) -> Float[Array, "1 H W 64"]:
    """Back from `subtract`."""
    return hr + residual.astype(hr.dtype)


@partial(jax.jit, static_argnums=1)
def to_size(image: Float[Array, "1 h w 3"], size: tuple[int, int]) -> Float[Array, "1 H W 3"]:
    """An output brought to another size, antialiased bicubic, and to [0, 1]."""
    resized = image if image.shape[1:3] == size else resize_bicubic(image, size)
    return jnp.clip(resized, 0.0, 1.0)
