"""BasicVSR++'s checkpoints, with the names of mmagic and of BasicSR; all variants."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ldip_jax.models.networks.basicvsr_pp import BasicVSRPlusPlus
from ldip_jax.weights.network import Network, backbone_shapes
from ldip_jax.weights.rules import Rule, conv
from ldip_jax.weights.spynet import spynet_rules

_BRANCH = r"(backward_[12]|forward_[12])"
_ALIGN = r"deform_align\." + _BRANCH


def _config(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Width, blocks and variant; the values of the published x4 network if the names do not show them."""
    widths = [array.size for name, array in arrays.items() if re.fullmatch(_ALIGN + r"\.bias", name)]
    trunk = rf"backbone\.{_BRANCH}\.main\.2\.(\d{{1,4}})\.conv1\.weight"
    blocks = {m[2] for name in arrays if (m := re.fullmatch(trunk, name))}
    return {
        "mid_channels": max(widths, default=64) or 64,
        "num_blocks": len(blocks) or 7,
        "same_size": "feat_extract.4.main.0.weight" in arrays,
    }


def _trunk(pattern: str, target: str) -> tuple[Rule, ...]:
    """Rules for a residual trunk; `target` uses the groups of `pattern`."""
    group = re.compile(pattern).groups + 1
    return (
        *conv(pattern + r"\.main\.0", target + ".main.0"),
        *conv(pattern + r"\.main\.2\.(?P<layer>\d{1,4})\.(conv[12])", rf"{target}.main.2.\{group + 1}"),
    )


BASICVSR_PP = Network(
    name="basicvsrpp",
    title="BasicVSR++",
    signature=_ALIGN + r"\.weight",
    config=_config,
    skeleton=lambda config: backbone_shapes(BasicVSRPlusPlus(**config)),
    rules=(
        *spynet_rules(r"spynet\.", "spynet."),
        *_trunk(r"feat_extract(\.4)?", r"feat_extract\1"),
        *conv(r"feat_extract\.([02])", r"feat_extract.\1"),
        *conv(_ALIGN, r"deform_align_\1"),
        *conv(_ALIGN + r"\.conv_offset\.([0246])", r"deform_align_\1.conv_offset.\2"),
        *_trunk(r"backbone\." + _BRANCH, r"backbone_\1"),
        *_trunk("reconstruction", "reconstruction"),
        *conv(r"(conv_hr|conv_last)", r"\1"),
        *conv(r"(?:upconv([12])|upsample([12])\.upsample_conv)", r"upconv\1\2"),
    ),
)
