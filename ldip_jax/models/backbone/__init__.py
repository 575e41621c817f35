"""The frozen video super-resolution networks that LDIP stands on."""

from ldip_jax.models.backbone.basicvsr import BasicVSR

BACKBONES = {"basicvsr": BasicVSR}
