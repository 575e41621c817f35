"""The matcher that a user asked for by name or folder."""

from pathlib import Path
from typing import Any

import flax.linen as nn

from ldip_jax.errors import InputError
from ldip_jax.matching.matcher import Matcher
from ldip_jax.matching.networks import flow_matcher, gmflow_matcher
from ldip_jax.matching.precomputed import PrecomputedMatcher
from ldip_jax.models.backbone.spynet import SPyNet
from ldip_jax.weights.fetch import Progress
from ldip_jax.weights.load import load_weights


def check_matcher(choice: str | Path) -> None:
    """
    Raises:
        InputError: neither a name nor a folder.
    """
    if choice not in ("gmflow", "flow") and not Path(choice).is_dir():
        raise InputError(f"{choice}: no such matcher; give gmflow, flow, or a folder of matches")


def choose_matcher(
    choice: str | Path,
    spynet: dict[str, Any],
    refine: bool = True,
    flow: tuple[nn.Module, dict[str, Any]] | None = None,
    progress: Progress = print,
) -> Matcher:
    """`gmflow`, `flow`, or a folder of matches made elsewhere.

    Args:
        choice: the name or the folder; `gmflow` fetches its weights unless they are in the cache.
        spynet: parameters of the backbone's own flow network, for `flow` and for the refinement.
        refine: whether `gmflow` takes its second look.
        flow: the clip's flow network and its parameters, for `flow`, if it is not the backbone's own.
        progress: receives lines of text while weights are fetched.

    Raises:
        InputError: neither a name nor a folder; or the weights cannot be had.
    """
    check_matcher(choice)
    if choice == "gmflow":
        weights = load_weights("gmflow", network="gmflow", progress=progress)
        return gmflow_matcher(weights.params, spynet if refine else None)
    if choice == "flow":
        return flow_matcher(*(flow or (SPyNet(), spynet)))
    return PrecomputedMatcher(choice)
