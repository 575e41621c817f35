"""BasicVSR's checkpoints, with the names of BasicSR and of mmagic."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ldip_jax.models.networks.basicvsr import BasicVSR
from ldip_jax.weights.network import Network, backbone_shapes
from ldip_jax.weights.rules import conv
from ldip_jax.weights.spynet import spynet_rules

_TRUNK = r"(backward|forward)_(?:trunk|resblocks)\.main"


def trunk_config(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Width and number of residual blocks; the published values if the names do not show them."""
    widths = [array.size for name, array in arrays.items() if re.fullmatch(_TRUNK + r"\.0\.bias", name)]
    blocks = {m[2] for name in arrays if (m := re.fullmatch(_TRUNK + r"\.2\.(\d{1,4})\.conv1\.weight", name))}
    return {"mid_channels": max(widths, default=64) or 64, "num_blocks": len(blocks) or 30}


BASICVSR = Network(
    name="basicvsr",
    title="BasicVSR",
    signature=_TRUNK + r"\.0\.weight",
    config=trunk_config,
    skeleton=lambda config: backbone_shapes(BasicVSR(**config)),
    rules=(
        *spynet_rules(r"spynet\.", "spynet."),
        *conv(_TRUNK + r"\.0", r"\1_trunk.main.0"),
        *conv(_TRUNK + r"\.2\.(?P<layer>\d{1,4})\.(conv[12])", r"\1_trunk.main.2.\3"),
        *conv(r"(fusion|conv_hr|conv_last)", r"\1"),
        *conv(r"(?:upconv([12])|upsample([12])\.upsample_conv)", r"upconv\1\2"),
    ),
)
