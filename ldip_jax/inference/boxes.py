"""The boxes of the paper's figure with their numbers of parameters, counted from the real trees."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from ldip_jax.models.arbitrary_scale import (
    ArbitraryScale,
    ArbitraryScaleDecoder,
    init_decoder,
    init_head,
)
from ldip_jax.models.lrrf import LRRF, init_lrrf


class Box(NamedTuple):
    """One row: nesting level, name, number of parameters, and what it is."""

    level: int
    name: str
    count: int
    what: str


def count(tree) -> int:
    """Parameters in a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def boxes(network: str, backbone: Mapping[str, Any]) -> list[Box]:
    """All boxes of LDIP on a backbone: its network's name, and its parameters or their shapes."""
    key = jax.random.key(0)
    lrrf = jax.eval_shape(lambda key: init_lrrf(LRRF(), key), key)
    head = jax.eval_shape(lambda key: init_head(ArbitraryScale(), key), key)
    decoder = jax.eval_shape(lambda key: init_decoder(ArbitraryScaleDecoder(), key), key)
    return [
        Box(0, network, count(backbone), "the backbone, frozen"),
        *(Box(1, name, count(tree), "") for name, tree in backbone.items()),
        Box(0, "lrrf", count(lrrf), "the trainable module"),
        Box(1, "ref_align", count(lrrf["ref_align"]), "features of a reference"),
        Box(1, "ref_fusion", count(lrrf["ref_fusion"]), "references into a key-frame, by ICA"),
        Box(1, "hrip", count(lrrf["hrip"]), "detail from frame to frame, backward and forward"),
        Box(0, "as_head", count(head), "HR features at any scale, in place of the backbone's x4"),
        Box(0, "as_decoder", count(decoder), "its decoder"),
    ]
