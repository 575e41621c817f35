"""The networks that LDIP is built on: frozen backbones, optical flow, and their parts."""

from ldip_jax.models.networks.basicvsr import BasicVSR
from ldip_jax.models.networks.basicvsr_pp import BasicVSRPlusPlus
from ldip_jax.models.networks.gmflow import OneWayGMFlow
from ldip_jax.models.networks.iart import IART
from ldip_jax.models.networks.raft import RAFT
from ldip_jax.models.networks.spynet import SPyNet

BACKBONES = {"basicvsr": BasicVSR, "basicvsrpp": BasicVSRPlusPlus, "iart": IART}
"""Video super-resolution networks, by the name of the network in `weights/`."""
FLOWS = {"spynet": SPyNet, "raft": RAFT, "gmflow": OneWayGMFlow}
"""Optical flow networks for HRIP and carry, by the same names; each takes (ref, supp)."""
