"""The optical flow that LRRF follows: the backbone's own, or that of a network with its own weights."""

from pathlib import Path

import flax.linen as nn

from ldip_jax.models.networks import FLOWS
from ldip_jax.weights.catalogue import CATALOGUE
from ldip_jax.weights.load import Weights, load_weights

OWN_FLOW = "spynet"
"""This name of a flow network stands for the SPyNet in the backbone's own weights."""


def load_flow(flow: str | Path, progress=print) -> Weights | None:
    """The weights of a flow network by name or file; None for the backbone's own.

    Raises:
        InputError: weights that cannot be loaded, or that are not of a flow network.
    """
    return None if flow == OWN_FLOW else load_weights(flow, network=tuple(FLOWS), progress=progress)


def flow_network(weights: Weights | None) -> nn.Module | None:
    """The module that the weights are for; it maps (ref, supp) to flow."""
    return None if weights is None else FLOWS[weights.network](**weights.config)


def flow_identity(weights: Weights | None) -> dict[str, str]:
    """What runs, records and exports say about their flow. The backbone's own has an empty sha256."""
    name, sha256 = (OWN_FLOW, "") if weights is None else (weights.name, weights.sha256)
    return {"name": name, "sha256": sha256}


def known_flow(sha256: str) -> str | None:
    """The name under which the flow weights with this sha256 can be fetched, if there is one."""
    entries = (entry for entry in CATALOGUE.values() if entry.network in FLOWS)
    return next((entry.name for entry in entries if entry.holds(sha256)), None)
