"""The compiled programs of inference: each works on one frame, one pair of frames or one reference at a time.

None depends on the number of frames, key-frames or references, so a clip of any length reuses them.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.carry import Route, blend, identity_route, raise_confidence
from ldip_jax.models.carry import extend_route as _extend_route
from ldip_jax.models.ldip import LDIP, flow_in_hr_pixels
from ldip_jax.models.sharpness import least_sharpness as _least_sharpness
from ldip_jax.models.sharpness import sharpness as _sharpness
from ldip_jax.models.sharpness import speed as _speed
from ldip_jax.models.sharpness import times_as_sharp as _times_as_sharp
from ldip_jax.ops.resize import resize_bicubic
from ldip_jax.profiling import timed

# There are 17 programs for each network; those of a few networks are kept.
_CACHED_PROGRAMS = 128
HEAD = ("as_head", "as_decoder")
Flow = Callable[[int, int], Float[Array, "1 h w 2"]]
"""From the places of two neighbouring frames to the LR flow from one to the other."""


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


def _extract(net, query, reference):
    return net.lrrf.extract(reference, query.dtype)


def _absorb(net, layer, query, state, features, reference):
    return net.lrrf.ref_fusion.absorb(layer, query, state, features, reference)


def _fuse(net, layer, query, state):
    return net.lrrf.fuse(layer, query, state)


def _finish(net, hr, query, best, valid):
    return net.lrrf.finish(hr, query, best, valid)


def _propagate(net, reverse, current, previous, flow, grid=None):
    return net.lrrf.propagate(reverse, current, previous, flow_in_hr_pixels(flow, current.shape[1:3], grid))


@lru_cache(maxsize=_CACHED_PROGRAMS)
def _compiled(net: LDIP, method: Callable, static: bool, donate: int | None) -> Callable:
    """A jitted method of a network: a function of parameters and arguments.

    It is cached, so that nothing is compiled for another clip of the same size, or for other weights of the
    same network.
    """

    def run(params, *args):
        return net.apply({"params": params}, *args, method=method)

    return jax.jit(run, static_argnums=1 if static else None, donate_argnums=donate)


class Programs:
    """`LDIP`'s methods, jitted, with their parameters on the device; every array has a batch axis of 1.

    Attributes:
        flow: (ref, supp) -> the backbone's optical flow.
        detail_flow: (ref, supp) -> the optical flow that detail follows.
        encode: frame -> its encoding.
        carry: frame -> the state before the first frame of a branch.
        step: (branch, carry, inputs, flow) -> carry, output; the backbone's recurrence, by one frame.
        reconstruct: inputs -> LR features.
        upscale: (LR features, grid or None) -> HR features.
        decode: (HR features, frame, grid or None) -> image, not clamped.
        query: HR features -> a key-frame's query.
        start: query -> the empty state of a layer.
        extract: (query, reference) -> the reference's features, in the query's type.
        absorb: (layer, query, state, features, reference) -> state with one more reference; donates the given
            state.
        fuse: (layer, query, state) -> query after the layer; donates the given query.
        finish: (HR features, query, highest confidence, validity) -> refined HR features.
        propagate: (reverse, current, previous, LR flow, grid or None) -> refined HR features of a frame.
        locate: (frame, image, key-frame, its image, route, least sharpness or None) -> places in the
            key-frame, their confidence.
        sample_detail: (detail, places, weight) -> the detail at a frame's pixels.
    """

    def __init__(self, net: LDIP, params: dict[str, Any]):
        self.net = net
        self._params = jax.device_put(params)
        self.flow = self._bind("features", _flow)
        self.detail_flow = self._bind("carry", LDIP.flow, ("flow_net",))
        self.encode = self._bind("features", _encode)
        self.carry = self._bind("features", _carry)
        self.step = self._bind("features", _step, static=True)
        self.reconstruct = self._bind("features", _reconstruct)
        self.upscale = self._bind("decoder", LDIP.upscale, HEAD)
        self.decode = self._bind("decoder", LDIP.decode, HEAD)
        self.query = self._bind("fusion", _query, ("lrrf",))
        self.start = self._bind("fusion", _start, ("lrrf",))
        self.extract = self._bind("fusion", _extract, ("lrrf",))
        self.absorb = self._bind("fusion", _absorb, ("lrrf",), static=True, donate=3)
        self.fuse = self._bind("fusion", _fuse, ("lrrf",), static=True, donate=2)
        self.finish = self._bind("fusion", _finish, ("lrrf",))
        self.propagate = self._bind("hrip", _propagate, ("lrrf",), static=True)
        self.locate = self._bind("carry", LDIP.locate)
        self.sample_detail = self._bind("carry", LDIP.sample_detail)

    def _bind(
        self,
        part: str,
        method: Callable,
        components: tuple[str, ...] = (),
        static: bool = False,
        donate: int | None = None,
    ) -> Callable:
        """A method with the parameters bound to it.

        Args:
            part: what its time counts as in a profile.
            components: what it uses besides the backbone. Networks that differ only in others share it.
            static: whether its first argument is static.
            donate: the argument whose buffers are donated, counted with the parameters as 0.
        """
        net = _reduced(self.net, components)
        params = {name: self._params[name] for name in ("backbone", *components) if name in self._params}
        # Flax modules are hashable, by their fields.
        compiled = _compiled(net, method, static, donate)  # type: ignore[arg-type]
        return timed(part, method.__name__.strip("_"), partial(compiled, params))


def _reduced(net: LDIP, components: tuple[str, ...]) -> LDIP:
    """The network with only these components and its backbone."""
    kept = {name: getattr(net, name) for name in components}
    return LDIP(net.backbone, **kept, hook=net.hook)


@partial(timed, "features", "mix")
@jax.jit
def mix(one: Float[Array, "1 h w c"], other: Float[Array, "1 h w c"], share: Float[Array, ""]) -> Array:
    """Both together; `share` is that of the other."""
    return one + share * (other - one)


@partial(timed, "carry", "subtract")
@jax.jit
def subtract(refined: Float[Array, "1 H W 64"], hr: Float[Array, "1 H W 64"]) -> Array:
    """What a pass added to a frame's features, in bfloat16, because it is held for many frames."""
    return (refined - hr).astype(jnp.bfloat16)


extend_route = timed("carry", "extend_route", jax.jit(_extend_route))
"""See `ldip_jax.models.carry.extend_route`."""


def routes_outwards(key_frame: int, frames: Iterable[int], flow: Flow) -> Iterator[Route]:
    """The LR routes to a frame from consecutive ones on one side of it, from its neighbour outwards."""
    route, last = None, key_frame
    for frame in frames:
        towards, back = flow(frame, last), flow(last, frame)
        route = extend_route(route or identity_route(*towards.shape[1:3]), towards, back)
        last = frame
        yield route


sharpness = timed("carry", "sharpness", jax.jit(_sharpness))
"""See `ldip_jax.models.sharpness.sharpness`."""
times_as_sharp = timed("carry", "times_as_sharp", jax.jit(_times_as_sharp))
"""See `ldip_jax.models.sharpness.times_as_sharp`."""
speed = timed("carry", "speed", jax.jit(_speed))
"""See `ldip_jax.models.sharpness.speed`."""
least_sharpness = timed("carry", "least_sharpness", jax.jit(_least_sharpness))
"""See `ldip_jax.models.sharpness.least_sharpness`."""


@partial(timed, "carry", "blend_sides")
@jax.jit
def blend_sides(
    confidences: list[Array], shares: Float[Array, "k"], damage: Float[Array, "k"]
) -> list[Array]:
    """The weights of both sides' detail; see `blend`.

    Args:
        confidences: of the places in the key-frames on both sides.
        shares: of the key-frames, by time.
        damage: of the key-frames, in [0, 1].
    """
    raised = [raise_confidence(*side) for side in zip(confidences, damage, strict=True)]
    stacked = jnp.stack(raised, axis=-1)
    weights = blend(jnp.broadcast_to(shares, stacked.shape), stacked)
    return [weights[..., side] for side in range(len(confidences))]


@partial(timed, "carry", "add_share")
@jax.jit
def add_share(detail: Array, hr: Float[Array, "1 H W 64"], share: Float[Array, ""]) -> Array:
    """A key-frame's detail and a share of its HR features, in the detail's type."""
    return (detail.astype(jnp.float32) + share * hr.astype(jnp.float32)).astype(detail.dtype)


@partial(timed, "carry", "replace_share")
@jax.jit
def replace_share(
    carried: Array, hr: Float[Array, "1 H W 64"], shares: Float[Array, "k"], weights: list[Array]
) -> Float[Array, "1 H W 64"]:
    """What was carried, minus the part of the frame's features that it replaces.

    Args:
        carried: details with shares of their key-frames' features, weighted.
        hr: the frame's features.
        shares: those of the key-frames; see `add_share`.
        weights: those of the key-frames, at each pixel.
    """
    replaced = sum(share * weight for share, weight in zip(shares, weights, strict=True))
    return carried.astype(jnp.float32) - replaced * hr.astype(jnp.float32)


@partial(timed, "carry", "add")
@jax.jit
def add(hr: Float[Array, "1 H W 64"], residual: Array) -> Float[Array, "1 H W 64"]:
    """The inverse of `subtract`."""
    return hr + residual.astype(hr.dtype)


@partial(jax.jit, static_argnums=1)
def to_size(image: Float[Array, "1 h w 3"], size: tuple[int, int]) -> Float[Array, "1 H W 3"]:
    """An image resized (antialiased bicubic) to (height, width) and clipped to [0, 1]."""
    resized = image if image.shape[1:3] == size else resize_bicubic(image, size)
    return jnp.clip(resized, 0.0, 1.0)
