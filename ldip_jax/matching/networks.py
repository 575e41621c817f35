"""The matchers with a network: GMFlow for any distance, the clip's optical flow for small motion."""

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.matching.dense import DenseMatcher
from ldip_jax.matching.refine import Refiner
from ldip_jax.models.backbone.spynet import SPyNet
from ldip_jax.models.gmflow.gmflow import GMFlow, extend, gmflow_size

Flows = tuple[Float[Array, "b h w 2"], Float[Array, "b h w 2"]]


def gmflow_both_ways(params: dict[str, Any], a: Float[Array, "b h w 3"], b: Float[Array, "b h w 3"]) -> Flows:
    """GMFlow on images of any size: padded by replication to multiples of 32, flows cropped."""
    h, w = a.shape[1:3]
    forward, backward = cast(Flows, GMFlow().apply({"params": params}, extend(a), extend(b)))
    return forward[:, :h, :w], backward[:, :h, :w]


@cache
def both_ways(net: nn.Module) -> Callable[..., Flows]:
    """A flow network from `a` to `b` and back, in one batch; one function for all equal networks."""

    def run(params: dict[str, Any], a: Float[Array, "b h w 3"], b: Float[Array, "b h w 3"]) -> Flows:
        flow = net.apply({"params": params}, jnp.concatenate([a, b]), jnp.concatenate([b, a]))
        forward, backward = jnp.split(cast(Array, flow), 2)
        return forward, backward

    return run


def own_size(size: tuple[int, int]) -> tuple[int, int]:
    """The key-frame's own size."""
    return size


def gmflow_matcher(params: dict[str, Any], spynet: dict[str, Any] | None) -> DenseMatcher:
    """GMFlow, its match refined by SPyNet with the parameters `spynet`, or not at all if None."""
    return DenseMatcher(
        gmflow_both_ways, params, gmflow_size, Refiner(spynet) if spynet is not None else None
    )


def flow_matcher(net: nn.Module, params: dict[str, Any]) -> DenseMatcher:
    """The clip's optical-flow network: cheap, for small motion.

    SPyNet runs at the key-frame's own size; others, which compare all pixels with all, at GMFlow's.
    """
    size = own_size if isinstance(net, SPyNet) else gmflow_size
    # Flax modules do hash, by their fields.
    return DenseMatcher(both_ways(net), params, size)  # type: ignore[arg-type]
