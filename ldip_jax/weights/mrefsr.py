"""MRefSR's three checkpoints: restoration, C2-Matching's extractor, and torchvision's VGG-19 or VGG-16.

The two VGG files are of image classifiers, of which only the first five convolutions are used.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ldip_jax.models.networks.mrefsr import Extractor, MRefSR, restoration_shapes
from ldip_jax.models.networks.spynet import IMAGENET_MEAN, IMAGENET_STD
from ldip_jax.models.networks.vgg import VGG
from ldip_jax.weights.network import Network, parameter_shapes
from ldip_jax.weights.rules import Rule, conv

ENCODERS = ("vgg19", "vgg16")
"""What the references' features can come from."""
MATCHES = ("c2-matching", "vgg16")
"""What matches can come from: C2-Matching's extractor, or plain VGG-16 in its place."""
PUBLISHED = {"blocks": 16, "encoder": ENCODERS[0], "matches": MATCHES[0]}
MOST_BLOCKS = 256

_STACK = r"content_extractor\.body\.(?P<layer>\d{1,3})\.(conv[12])"
_SIZE = r"(small|medium|large)"
_LEVEL = r"dyn_agg_restore\."
_INTO = r"dyn_agg_restore_\1."
_LAYERS = {"0": "conv1_1", "2": "conv1_2", "5": "conv2_1", "7": "conv2_2", "10": "conv3_1"}


def mrefsr_config(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The number of residual blocks; official files do not say what they were trained with."""
    blocks = {m["layer"] for name in arrays if (m := re.fullmatch(_STACK + r"\.weight", name))}
    return {**PUBLISHED, "blocks": len(blocks) or PUBLISHED["blocks"]}


def _skeleton(config: dict[str, Any]) -> Mapping[str, Any]:
    known = config["encoder"] in ENCODERS and config["matches"] in MATCHES
    if not known or not 0 < config["blocks"] <= MOST_BLOCKS:
        raise ValueError("its config is not one of MRefSR")
    return restoration_shapes(MRefSR(blocks=config["blocks"]))


def _constants(pattern: str) -> tuple[Rule, ...]:
    return tuple(
        Rule(pattern + name, None, value=np.array(value, np.float32).reshape(1, 3, 1, 1))
        for name, value in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD))
    )


MREFSR = Network(
    name="mrefsr",
    title="MRefSR",
    signature=r"dyn_agg_restore\.head_small\.conv_emb1\.0\.weight",
    config=mrefsr_config,
    skeleton=_skeleton,
    rules=(
        *conv(r"content_extractor\.conv_first", "content_extractor.conv_first"),
        *conv(_STACK, r"content_extractor.body.block.\2"),
        *conv(rf"{_LEVEL}body_{_SIZE}\.(?P<layer>\d{{1,3}})\.(conv[12])", _INTO + r"body.block.\3"),
        *conv(rf"{_LEVEL}{_SIZE}_(offset_conv[12]|dyn_agg(?:\.conv_offset_mask)?)", _INTO + r"\2"),
        *conv(rf"{_LEVEL}head_{_SIZE}\.(conv_emb[12]\.0|conv_ass|feat_fusion)", _INTO + r"head.\2"),
        *conv(rf"{_LEVEL}head_{_SIZE}\.(spatial_attn(?:_(?:mul|add)[12])?)", _INTO + r"head.\2"),
        Rule(rf"{_LEVEL}head_{_SIZE}\.(conv_emb[12]\.1)\.weight", _INTO + r"head.\2"),
        *conv(rf"{_LEVEL}tail_{_SIZE}\.([02])", _INTO + r"tail.\2"),
    ),
)

EXTRACTOR = Network(
    name="c2-matching",
    title="C2-Matching's extractor",
    signature=r"feature_extraction_image1\.model\.conv1_1\.weight",
    config=lambda arrays: {},
    skeleton=lambda config: parameter_shapes(Extractor(**config), (1, 16, 16, 3), (1, 16, 16, 3)),
    rules=(
        *_constants(r"feature_extraction_image[12]\."),
        *conv(r"(feature_extraction_image[12])\.model\.(conv[123]_[12])", r"\1.\2"),
    ),
)


def _vgg(name: str, title: str, signature: str) -> Network:
    return Network(
        name=name,
        title=title,
        signature=signature,
        config=lambda arrays: {},
        skeleton=lambda config: parameter_shapes(VGG(**config), (1, 16, 16, 3)),
        rules=(
            *_constants(""),
            *conv(r"vgg_net\.(conv[123]_[12])", r"\1"),
            *(rule for number, layer in _LAYERS.items() for rule in conv(rf"features\.{number}", layer)),
            Rule(
                r"(?:features\.(?:1[1-9]|[2-9]\d)|classifier\.\d)\.(?:weight|bias)",
                None,
                reason="a layer after conv3_1, which is not used",
            ),
        ),
    )


# The numbers of the last convolutions: 34 in VGG-19, 28 in both; `features.17` only in VGG-16.
VGG19 = _vgg("vgg19", "VGG-19", r"features\.34\.weight|vgg_net\.conv1_1\.weight")
VGG16 = _vgg("vgg16", "VGG-16", r"features\.17\.weight")
