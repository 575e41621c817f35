"""RAFT's checkpoints, large and small, with the names of torchvision and of the original repository."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ldip_jax.models.networks.raft import RAFT
from ldip_jax.weights.network import Network, parameter_shapes
from ldip_jax.weights.rules import Rule, conv, norm

_CELL = r"layer[123]\.[01]"
_ENCODERS = {"fnet": "feature_encoder", "cnet": "context_encoder"}


def _batch_norm(pattern: str, target: str) -> tuple[Rule, ...]:
    """Rules for a batch normalisation and its running statistics."""
    running = (Rule(rf"{pattern}\.running_{name}", f"{target}.{name}") for name in ("mean", "var"))
    return (*norm(pattern, target), *running)


def _torchvision() -> tuple[Rule, ...]:
    encoder = r"(feature|context)_encoder"
    motion = r"update_block\.motion_encoder"
    return (
        *conv(rf"{encoder}\.convnormrelu\.0", r"\1_encoder.convnormrelu.conv"),
        *conv(rf"{encoder}\.conv", r"\1_encoder.conv"),
        *conv(rf"{encoder}\.({_CELL}\.(?:convnormrelu[123]|downsample))\.0", r"\1_encoder.\2.conv"),
        *_batch_norm(r"context_encoder\.convnormrelu\.1", "context_encoder.convnormrelu.norm"),
        *_batch_norm(
            rf"context_encoder\.({_CELL}\.(?:convnormrelu[12]|downsample))\.1", r"context_encoder.\1.norm"
        ),
        *conv(rf"{motion}\.(convcorr[12]|convflow[12]|conv)\.0", r"update_block.motion_encoder.\1.0"),
        *conv(r"(update_block\.recurrent_block\.convgru[12]\.conv[zrq])", r"\1"),
        *conv(r"(mask_predictor\.(?:convrelu\.0|conv))", r"\1"),
    )


def _original() -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for source, target in _ENCODERS.items():
        rules += conv(rf"{source}\.conv1", f"{target}.convnormrelu.conv")
        rules += conv(rf"{source}\.conv2", f"{target}.conv")
        rules += conv(rf"{source}\.({_CELL})\.conv([123])", rf"{target}.\1.convnormrelu\2.conv")
        rules += conv(rf"{source}\.({_CELL})\.downsample\.0", rf"{target}.\1.downsample.conv")
    rules += _batch_norm(r"cnet\.norm1", "context_encoder.convnormrelu.norm")
    rules += _batch_norm(rf"cnet\.({_CELL})\.norm([12])", r"context_encoder.\1.convnormrelu\2.norm")
    rules += _batch_norm(rf"cnet\.({_CELL})\.downsample\.1", r"context_encoder.\1.downsample.norm")
    rules.append(Rule(rf"cnet\.{_CELL}\.norm3\..+", None, reason="a copy of downsample.1"))
    motion, gru = r"update_block\.encoder", "update_block.recurrent_block"
    return (
        *rules,
        *conv(rf"{motion}\.convc([12])", r"update_block.motion_encoder.convcorr\1.0"),
        *conv(rf"{motion}\.convf([12])", r"update_block.motion_encoder.convflow\1.0"),
        *conv(rf"{motion}\.conv", "update_block.motion_encoder.conv.0"),
        *conv(r"update_block\.gru\.conv([zrq])([12])", rf"{gru}.convgru\2.conv\1"),
        *conv(r"update_block\.gru\.conv([zrq])", rf"{gru}.convgru1.conv\1"),
        *conv(r"update_block\.mask\.0", "mask_predictor.convrelu.0"),
        *conv(r"update_block\.mask\.2", "mask_predictor.conv"),
    )


def raft_config(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The small variant has only one convolution of the similarities."""
    large = any(re.match(r"update_block\..*(convcorr2|convc2)\.", name) for name in arrays)
    return {"small": bool(arrays) and not large}


RAFT_NETWORK = Network(
    name="raft",
    title="RAFT",
    signature=r"update_block\.(motion_encoder\.convcorr1\.0|encoder\.convc1)\.weight",
    config=raft_config,
    skeleton=lambda config: parameter_shapes(RAFT(**config), (1, 128, 128, 3), (1, 128, 128, 3)),
    rules=(
        *_torchvision(),
        *_original(),
        # Same names in both.
        *conv(r"(update_block\.flow_head\.conv[12])", r"\1"),
    ),
)
