"""An initialisation of Ref-Align and Ref-Fusion that passes on the detail of a confident reference.

Random layers first have to learn that what matters is the detail that the reference has and the key-frame
lacks. That takes tens of thousands of steps. This initialisation has it built in:

- The extractor keeps a reference's detail, which is what a blur removes.
- The attention prefers the reference with more confidence.
- The fusion subtracts the key-frame's own detail, read from its features, and passes on what exceeds a
  threshold. The threshold is higher if the match is doubtful or the reference is coarse.
- The last convolution writes the result into the features.

This is a linear transfer of high frequencies. Everything else stays random and is left to training.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

import jax
import numpy as np

from ldip_jax.errors import InputError
from ldip_jax.training.features import BLUR, BLURS, DetailMaps, MeasuredClip, fit_detail_maps
from ldip_jax.training.setup import Run
from ldip_jax.training.sharding import of_first_process

Tree = dict[str, Any]

# Random weights are multiplied by this if they would drown out the built-in ones.
NOISE = 0.3
# Amplitude of the constant pattern that keeps the attention's norm from amplifying small details.
CARRIER = 2.0
# How sharply the attention selects by confidence.
SELECTIVITY = 6.0
# The share of the detail that is passed on, and the threshold that it must exceed: DOUBT for each unit by
# which confidence is below KNEE, plus COARSE for each unit by which the sampling offset changes from pixel to
# pixel, which shows a coarse reference. Detail is in the extractor's scale, four times that of [0, 1].
SHARE, DOUBT, KNEE, COARSE = 0.9, 2.0, 1.0, 2.0
# Gains of LeakyReLU for a pair of units, x and -x: their difference is ODD * x, their sum EVEN * |x|.
ODD, EVEN = 1.0 + 0.1, 1.0 - 0.1
# Channels of the aligned features: sampling offset (x, y), confidence.
OFFSET, CONFIDENCE = (64, 65), 66
RGB = range(3)


def transfer_start(lrrf: Mapping[str, Any], maps: DetailMaps) -> Tree:
    """LRRF's parameters with this initialisation, from random ones; HRIP's are unchanged.

    Raises:
        InputError: Ref-Fusion is trained already.
    """
    refuse_trained(lrrf)
    tree = cast(Tree, jax.tree.map(np.array, dict(lrrf)))
    _extract(tree["ref_align"]["feature_extractor"])
    fusion = tree["ref_fusion"]
    _set(fusion["conv_q_in"], RGB, maps.read, maps.bias)
    _set_keys_and_values(fusion["conv_kv_in"])
    _attend(fusion["ica_0"])
    _subtract(fusion["fusion_0"])
    _pass_query(fusion["fusion_1"])
    fusion["conv_r"]["kernel"][:, :, :3] = maps.write
    return tree


def with_transfer_start(run: Run, clips: Iterable[MeasuredClip]) -> Run:
    """The run with this initialisation, its maps fitted to a few training clips.

    Raises:
        InputError: Ref-Fusion is trained already.
    """
    lrrf = run.params["lrrf"]
    refuse_trained(lrrf)
    started = of_first_process(transfer_start(lrrf, fit_detail_maps(run, clips)))
    return replace(run, params={**run.params, "lrrf": started})


def refuse_trained(lrrf: Mapping[str, Any]) -> None:
    """Check that Ref-Fusion is untrained.

    Raises:
        InputError: Ref-Fusion is trained already.
    """
    if np.any(lrrf["ref_fusion"]["conv_r"]["kernel"]):
        raise InputError("config.fusion_start=transfer: Ref-Fusion is trained already; leave it at plain")


def _set(layer: Tree, channels: Iterable[int], kernel: Any = 0.0, bias: Any = 0.0) -> None:
    """Set the kernel and bias of some output channels of a layer."""
    layer["kernel"][..., list(channels)] = kernel
    layer["bias"][list(channels)] = bias


def _shrink(layer: Tree) -> None:
    layer["kernel"] *= NOISE


def _middle(layer: Tree) -> np.ndarray:
    """A layer's kernel at the central pixel, `c o`: a view that can be written to."""
    kernel = layer["kernel"]
    return kernel if kernel.ndim == 2 else kernel[kernel.shape[0] // 2, kernel.shape[1] // 2]


def _extract(extractor: Tree) -> None:
    """Channels 0 to 2 of the features: the image minus its blur."""
    first, block, last = extractor["conv_first"], extractor["rdb_0"], extractor["rdb_1"]
    _set(first, range(6))
    for c in RGB:
        _middle(first)[c, c] = 1.0
        first["kernel"][:, :, c, 3 + c] = BLUR
    for depth in range(BLURS - 1):
        dense = block[f"dense_{depth}"]
        _set(dense, range(6))
        for c in RGB:
            # Out: plus and minus the blur. In: the previous blur, from the first convolution or a pair.
            before = {3 + c: 1.0} if depth == 0 else _pair(64 + 16 * (depth - 1) + 2 * c)
            for channel, weight in before.items():
                dense["kernel"][:, :, channel, 2 * c] = weight * BLUR
                dense["kernel"][:, :, channel, 2 * c + 1] = -weight * BLUR
    for fused in (block["local_fusion"], last["local_fusion"]):
        _shrink(fused)
        _set(fused, RGB)
    for c in RGB:
        for channel, weight in _pair(64 + 16 * (BLURS - 2) + 2 * c).items():
            _middle(block["local_fusion"])[channel, c] = -weight


def _pair(first: int) -> dict[int, float]:
    """Weights that recover a signal from the pair of units that took it through LeakyReLU."""
    return {first: 1.0 / ODD, first + 1: -1.0 / ODD}


def _set_keys_and_values(conv: Tree) -> None:
    """Keys and values: detail, confidence, change of the sampling offset, and the carrier."""
    _shrink(conv)
    _set(conv, range(6))
    for c in RGB:
        _middle(conv)[c, c] = 1.0
    _middle(conv)[CONFIDENCE, 3] = 1.0
    x, y = OFFSET
    conv["kernel"][1, [0, 2], x, 4] = conv["kernel"][[0, 2], 1, y, 5] = (-0.5, 0.5)
    _add_carrier(conv)


def _add_carrier(layer: Tree) -> None:
    """A constant pattern with mean 0 on the upper half of a layer's outputs."""
    width = layer["bias"].shape[0]
    _set(layer, range(width // 2, width), bias=CARRIER * np.where(np.arange(width // 2) % 2, 1.0, -1.0))


def _attend(ica: Tree, heads: int = 4) -> None:
    """Every head returns detail, confidence and coarseness, mostly of the most confident reference."""
    if "mlp_0" in ica:
        _set(ica["mlp_0"], range(12))
        _shrink(ica["mlp_1"])
        _set(ica["mlp_1"], range(6))
        _add_carrier(ica["mlp_1"])
        kv = 64
        for c in range(6):
            _middle(ica["mlp_0"])[kv + c, [2 * c, 2 * c + 1]] = (1.0, -1.0)
        for c in range(4):
            _middle(ica["mlp_1"])[[2 * c, 2 * c + 1], c] = (1.0 / ODD, -1.0 / ODD)
        # Horizontal and vertical changes, whatever their sign.
        _middle(ica["mlp_1"])[8:12, 4] = 1.0 / EVEN
    ica["norm_kv"]["scale"][:] = CARRIER / np.sqrt(2.0)
    for name in ("q", "k", "v", "out"):
        _shrink(ica[name])
    size = ica["v"]["bias"].shape[0] // heads
    signals = range(5 if "mlp_0" in ica else 4)
    _set(ica["out"], range(6))
    for head in range(heads):
        place = head * size
        _set(ica["v"], range(place, place + len(signals)))
        for c in signals:
            _middle(ica["v"])[c, place + c] = 1.0
            _middle(ica["out"])[place + c, c] = 1.0 / heads
        last = place + size - 1
        _set(ica["q"], [last], bias=np.sqrt(size))
        _set(ica["k"], [last])
        _middle(ica["k"])[3, last] = SELECTIVITY


def _subtract(fusion: Tree) -> None:
    """The reference's detail minus the key-frame's own, beyond a threshold."""
    value = 64
    _set(fusion["conv_0"], range(6))
    weights = _middle(fusion["conv_0"])
    for c in RGB:
        weights[value + c, [2 * c, 2 * c + 1]] = (1.0, -1.0)
        weights[c, [2 * c, 2 * c + 1]] = (-1.0, 1.0)
    weights[value + 3, :6] = DOUBT
    weights[value + 4, :6] = -COARSE
    fusion["conv_0"]["bias"][:6] = -DOUBT * KNEE
    _pass_pairs(fusion, SHARE)


def _pass_query(fusion: Tree) -> None:
    """The query's first channels, unchanged."""
    _set(fusion["conv_0"], range(6))
    for c in RGB:
        _middle(fusion["conv_0"])[c, [2 * c, 2 * c + 1]] = (1.0, -1.0)
    _pass_pairs(fusion, 1.0)


def _pass_pairs(fusion: Tree, share: float) -> None:
    """From pairs of units of the first layer to channels 0 to 2 of the last."""
    for name, wide in (("conv_1", 6), ("conv_2", 3)):
        _shrink(fusion[name])
        _set(fusion[name], range(wide))
    for c in RGB:
        for channel, weight in _pair(2 * c).items():
            _middle(fusion["conv_1"])[channel, [2 * c, 2 * c + 1]] = (share * weight, -share * weight)
            _middle(fusion["conv_2"])[channel, c] = weight
