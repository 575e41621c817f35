"""The compiled programs that inference is made of: one frame, one pair or one reference at a time.

None depends on the number of frames, key-frames or references: a clip of any length reuses them.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.ldip import LDIP, hr_flow
from ldip_jax.ops.resize import resize_bicubic

# 15 programs of each of a few networks.
_KEPT = 64


def _flow(net, ref, supp):
    return net.backbone.flow(ref, supp)


def _encode(net, frame):
    return net.backbone.encode(frame)


def _carry(net, frame):
    return net.backbone.carry(frame)


def _step(net, branch, carry, inputs, flow):
    return net.backbone.step(branch, carry, inputs, flow)


def _reconstruct(net, inputs):
    return net.backbone.reconstruct(inputs)


def _query(net, hr):
    return net.lrrf.query(hr)


def _start(net, query):
    return net.lrrf.start(query)


def _absorb(net, layer, query, state, reference):
    return net.lrrf.absorb(layer, query, state, reference)


def _fuse(net, layer, query, state):
    return net.lrrf.fuse(layer, query, state)


def _finish(net, hr, query, best, valid):
    return net.lrrf.finish(hr, query, best, valid)


def _propagate(net, reverse, current, previous, flow):
    return net.lrrf.propagate(reverse, current, previous, hr_flow(flow, current.shape[1:3]))


@lru_cache(maxsize=_KEPT)
def _compiled(net: LDIP, method: Callable, static: bool, donate: int | None) -> Callable:
    """A jitted method of a network: a function of parameters and arguments.

    Kept, so that another clip of the same size, or other weights of the same network, compile nothing.
    """

    def run(params, *args):
        return net.apply({"params": params}, *args, method=method)

    return jax.jit(run, static_argnums=1 if static else None, donate_argnums=donate)


class Programs:
    """`LDIP`'s methods, jitted, with their parameters on the device; every array has a batch axis of 1.

    Attributes:
        flow: (ref, supp) -> the backbone's optical flow.
        detail_flow: (ref, supp) -> the optical flow that HRIP follows.
        encode: frame -> its encoding.
        carry: frame -> the state before the first frame of a branch.
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
        self.flow = self._bind(_flow)
        self.detail_flow = self._bind(LDIP.flow)
        self.encode = self._bind(_encode)
        self.carry = self._bind(_carry)
        self.step = self._bind(_step, static=True)
        self.reconstruct = self._bind(_reconstruct)
        self.upscale = self._bind(LDIP.upscale)
        self.decode = self._bind(LDIP.decode)
        self.query = self._bind(_query)
        self.start = self._bind(_start)
        self.absorb = self._bind(_absorb, static=True, donate=3)
        self.fuse = self._bind(_fuse, static=True, donate=2)
        self.finish = self._bind(_finish)
        self.propagate = self._bind(_propagate, static=True)

    def _bind(self, method: Callable, static: bool = False, donate: int | None = None) -> Callable:
        """A method with the parameters; its first argument may be `static`, argument `donate` be used up."""
        # Flax modules do hash, by their fields.
        compiled = _compiled(self.net, method, static, donate)  # type: ignore[arg-type]
        return partial(compiled, self._params)


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
