"""Optical-flow networks that can lead HRIP in place of the backbone's own."""

from ldip_jax.models.backbone.spynet import SPyNet
from ldip_jax.models.raft.raft import RAFT

FLOWS = {"spynet": SPyNet, "raft": RAFT}
"""Modules from (ref, supp) to flow, by the name of the network in `weights/`."""
