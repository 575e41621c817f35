"""The matchers with a network: GMFlow for any distance, SPyNet for small motion."""

from typing import Any, cast

import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.matching.dense import DenseMatcher
from ldip_jax.matching.refine import Refiner
from ldip_jax.models.backbone.spynet import SPyNet
from ldip_jax.models.gmflow.gmflow import MULTIPLE, GMFlow

# Bounds of the longer side. Below 512 the network is off by a pixel and more even between shifted copies, and
# at 128 it finds next to nothing; small images are enlarged instead.
LONGEST = 640
SHORTEST = 512

Flows = tuple[Float[Array, "b h w 2"], Float[Array, "b h w 2"]]


def gmflow_size(size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) in the proportions of `size`, its longer side brought into [512, 640]."""
    longest = max(size)
    target = max(min(LONGEST, longest), SHORTEST)
    h, w = (max(1, round(side * target / longest)) for side in size)
    return h, w


def gmflow_both_ways(params: dict[str, Any], a: Float[Array, "b h w 3"], b: Float[Array, "b h w 3"]) -> Flows:
    """GMFlow on images of any size: padded by replication to multiples of 32, flows cropped."""
    h, w = a.shape[1:3]
    pad = ((0, 0), (0, -h % MULTIPLE), (0, -w % MULTIPLE), (0, 0))
    a, b = (jnp.pad(x, pad, mode="edge") for x in (a, b))
    forward, backward = cast(Flows, GMFlow().apply({"params": params}, a, b))
    return forward[:, :h, :w], backward[:, :h, :w]


def spynet_both_ways(params: dict[str, Any], a: Float[Array, "b h w 3"], b: Float[Array, "b h w 3"]) -> Flows:
    """SPyNet from `a` to `b` and from `b` to `a`, in one batch."""
    flow = SPyNet().apply({"params": params}, jnp.concatenate([a, b]), jnp.concatenate([b, a]))
    forward, backward = jnp.split(cast(Array, flow), 2)
    return forward, backward


def gmflow_matcher(params: dict[str, Any], spynet: dict[str, Any] | None) -> DenseMatcher:
    """GMFlow, its match refined by SPyNet with the parameters `spynet`, or not at all if None."""
    return DenseMatcher(
        gmflow_both_ways, params, gmflow_size, Refiner(spynet) if spynet is not None else None
    )


def flow_matcher(spynet: dict[str, Any]) -> DenseMatcher:
    """The clip's optical-flow network at the key-frame's own size: cheap, for small motion."""
    return DenseMatcher(spynet_both_ways, spynet, lambda size: size)
