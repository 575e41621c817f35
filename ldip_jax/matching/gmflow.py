"""The usual matcher: GMFlow."""

from functools import partial
from typing import Any, cast

import jax
from jaxtyping import Array, Float

from ldip_jax.matching.dense import DenseMatcher, Flows, Params, encode_compiled, gmflow_bidirectional
from ldip_jax.matching.matcher import Pair
from ldip_jax.matching.refine import Refiner
from ldip_jax.matching.retrieval import Retrieval
from ldip_jax.models.networks.gmflow import Encoded, GMFlow, extend, gmflow_size


def gmflow_features(params: Params, image: Float[Array, "b h w 3"]) -> Encoded:
    """GMFlow's features of an image of any size, padded by replication to multiples of 32."""
    return cast(Encoded, GMFlow().apply({"params": params}, extend(image), method=GMFlow.encode))


def gmflow_flows(params: Params, a: Encoded, b: Encoded) -> Flows:
    """GMFlow's flows, of the padded images' size, from the features of both images."""
    return cast(Flows, GMFlow().apply({"params": params}, a, b, method=GMFlow.compare))


def _describe(params: Params, small: Float[Array, "1 h w 3"]) -> Float[Array, "1 y x 128"]:
    return encode_compiled(gmflow_features, params, small).coarse


class GMFlowMatcher(DenseMatcher):
    """Matches with GMFlow, and compares images by its features."""

    def __init__(self, params: dict[str, Any], spynet: dict[str, Any] | None):
        """`params`: GMFlow's; `spynet`: those of SPyNet, which refines the match; None: nothing does."""
        params = jax.device_put(params)
        refiner = Refiner(spynet) if spynet is not None else None
        halves = (gmflow_features, gmflow_flows)
        super().__init__(gmflow_bidirectional, params, gmflow_size, refiner, halves, softens=True)
        self._retrieval = Retrieval(partial(_describe, params))

    def likeness(self, pair: Pair) -> float:
        """See `Ranker`."""
        return self._retrieval(pair.anchor, pair.reference)
