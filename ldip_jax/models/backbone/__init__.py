"""The frozen video super-resolution networks that LDIP stands on."""

from ldip_jax.models.backbone.basicvsr import BasicVSR
from ldip_jax.models.backbone.basicvsr_pp import BasicVSRPlusPlus
from ldip_jax.models.backbone.iart import IART

BACKBONES = {"basicvsr": BasicVSR, "basicvsrpp": BasicVSRPlusPlus, "iart": IART}
