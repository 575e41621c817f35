"""IART's checkpoints, with the names of the official repository."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ldip_jax.models.networks.iart import CORNERS, FRAMES, IART, corner_codes
from ldip_jax.ops.windows import relative_index
from ldip_jax.weights.network import Network, backbone_shapes
from ldip_jax.weights.rules import Rule, conv, dense, norm
from ldip_jax.weights.spynet import spynet_rules

PUBLISHED = {
    "mid_channels": 64,
    "embed_dim": 120,
    "groups": 3,
    "blocks": 6,
    "heads": 6,
    "window": 8,
    "mlp_ratio": 2,
}
# No larger network is built, whatever a file holds; its shapes are then reported as wrong.
MOST = {
    "mid_channels": 1024,
    "embed_dim": 1024,
    "groups": 16,
    "blocks": 32,
    "heads": 64,
    "window": 16,
    "mlp_ratio": 16,
}

_BRANCH = r"swin_backbone\.((?:backward|forward)_[12])"
_GROUP = _BRANCH + r"\.layers\.(?P<layer>\d{1,2})"
_BLOCK = _GROUP + r"\.residual_group\.blocks\.(\d{1,2})\."
_INTO = r"swin_backbone_\1.layers.blocks.\3."


def iart_config(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Widths and numbers of layers from the arrays; the published ones if these do not fit any network."""
    block = "swin_backbone.backward_1.layers.0.residual_group.blocks.0."

    def shape(name: str) -> tuple[int, ...]:
        return arrays[name].shape if name in arrays else ()

    shapes = [
        shape(name)
        for name in (
            "conv_before_upsample.bias",
            "conv_first.bias",
            block + "attn.relative_position_bias_table",
            block + "mlp.fc1.bias",
        )
    ]
    if [len(each) for each in shapes] != [1, 1, 2, 1]:
        return dict(PUBLISHED)
    (mid,), (width,), (rows, heads), (hidden,) = shapes
    places = {m.groups() for name in arrays if (m := re.match(_BLOCK, name))}
    config = {
        "mid_channels": mid,
        "embed_dim": width,
        "groups": len({group for _, group, _ in places}),
        "blocks": len({index for *_, index in places}),
        "heads": heads,
        "window": (math.isqrt(rows // (2 * FRAMES - 1)) + 1) // 2,
        "mlp_ratio": hidden // max(width, 1),
    }
    return config if _possible(config) else dict(PUBLISHED)


def _possible(config: dict[str, Any]) -> bool:
    width = config["embed_dim"]
    bounded = all(0 < config[name] <= most for name, most in MOST.items())
    return bounded and width % 4 == 0 and width % config["heads"] == 0


def _skeleton(config: dict[str, Any]) -> Mapping[str, Any]:
    if not _possible(config):
        raise ValueError("its config is not one of IART")
    return backbone_shapes(IART(**config))


def _codes(shape: tuple[int, ...]) -> np.ndarray:
    width = shape[-1] if len(shape) == 3 and shape[-1] % 4 == 0 else 4
    return np.asarray(corner_codes(width))[None]


def _index(shape: tuple[int, ...]) -> np.ndarray:
    side = min(math.isqrt(shape[0] // FRAMES), MOST["window"]) if shape else 1
    return relative_index((FRAMES, side, side))


IART_NETWORK = Network(
    name="iart",
    title="IART",
    signature=r"implicit_warp\.q\.weight",
    config=iart_config,
    skeleton=_skeleton,
    rules=(
        *spynet_rules(r"spynet\.", "spynet."),
        *conv(r"(conv_first|conv_before_upsample|upconv[12]|conv_hr|conv_last)", r"\1"),
        *dense(r"implicit_warp\.([qkv])", r"implicit_warp.\1"),
        # The angles go up to 500, where only the first digits of a float32 sine are the same everywhere.
        Rule(r"implicit_warp\.position_bias", None, value=_codes, tolerance=1e-3),
        Rule(r"implicit_warp\.window_idx_offset", None, value=np.array(CORNERS)),
        *norm(_BRANCH + r"\.patch_embed\.norm", r"swin_backbone_\1.patch_embed_norm"),
        *norm(_BRANCH + r"\.norm", r"swin_backbone_\1.norm"),
        *conv(_BRANCH + r"\.conv_after_body", r"swin_backbone_\1.conv_after_body"),
        *conv(_GROUP + r"\.conv", r"swin_backbone_\1.layers.conv"),
        *norm(_BLOCK + r"(norm[12])", _INTO + r"\4"),
        *dense(_BLOCK + r"(attn\.(?:qkv|proj))", _INTO + r"\4"),
        *dense(_BLOCK + r"mlp\.(fc[12])", _INTO + r"\4"),
        Rule(_BLOCK + r"attn\.relative_position_bias_table", _INTO + "attn.relative_position_bias_table"),
        Rule(_BLOCK + r"attn\.relative_position_index", None, value=_index),
        # Left over from a network for single frames.
        Rule(
            _BRANCH + r"\.(conv_first|conv_first_feat|conv_before_upsample)\.(weight|bias)",
            None,
            reason="a part that never runs",
        ),
    ),
)
