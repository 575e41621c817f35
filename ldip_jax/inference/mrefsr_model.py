"""MRefSR's three networks: loaded, named after what they were trained with, and listed with their parts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ldip_jax.errors import InputError
from ldip_jax.inference.model import BAND_PIXELS, Component, count_parameters
from ldip_jax.models.networks.mrefsr import SIZES, Extractor, MRefSR, restoration_shapes
from ldip_jax.models.networks.vgg import VGG
from ldip_jax.weights.load import Weights, load_weights
from ldip_jax.weights.network import parameter_shapes

NEEDED = (
    "MRefSR's authors publish no trained restoration network; train one (`ldip train --config mrefsr_x4`)"
    " and give its export as --mrefsr FILE"
)


@dataclass(frozen=True)
class MRefSRModel:
    """MRefSR's networks and their weights.

    Attributes:
        net: the restoration network.
        params: "restoration", "features" (VGG) and "extractor", nested dicts.
        title: what to call it; MRefSR only if features and matches are those of its authors.
        sha256: of all files, by what they are.
        notes: lines to show to the user.
    """

    net: MRefSR
    params: dict[str, Any]
    title: str
    sha256: dict[str, str]
    notes: list[str] = field(default_factory=list)


def method_title(config: dict[str, Any]) -> str:
    """What to call a restoration network of this config, together with what it was trained on."""
    own_matches, own_features = config["matches"] == "c2-matching", config["encoder"] == "vgg19"
    if own_matches and own_features:
        return "MRefSR"
    ours = [*([] if own_matches else ["our matches"]), *([] if own_features else ["VGG-16 features"])]
    return f"MRefSR restoration, {', '.join(ours)}"


def load_vgg16(progress: Callable[[str], object] = print) -> Weights:
    """VGG-16's first layers, from the weights of LPIPS, which has its features unchanged."""
    weights = load_weights("lpips-vgg", network="lpips", progress=progress)
    names = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")
    layers = weights.params["net"]
    params = {name: layers[f"layer_{index}"]["conv"] for index, name in enumerate(names)}
    return Weights("lpips-vgg", "vgg16", {}, params, weights.sha256, weights.licence, [])


def load_features(
    encoder: str, file: str | Path | None = None, progress: Callable[[str], object] = print
) -> Weights:
    """The network that references' features come from.

    Args:
        encoder: "vgg19" or "vgg16".
        file: a checkpoint of it; None: fetched.

    Raises:
        InputError: it cannot be fetched or read, or is of another network.
    """
    if file is None and encoder == "vgg16":
        return load_vgg16(progress)
    return load_weights(file or encoder, network=encoder, progress=progress)


def load_extractor(
    matches: str, file: str | Path | None = None, progress: Callable[[str], object] = print
) -> Weights:
    """The two networks that matches come from.

    Args:
        matches: "c2-matching", or "vgg16" for VGG-16 as C2-Matching began its training with.
        file: C2-Matching's checkpoint; it cannot be fetched.

    Raises:
        InputError: the file is missing, cannot be read, or is of another network.
    """
    if matches == "vgg16":
        weights = load_vgg16(progress) if file is None else load_weights(file, network="vgg16")
        stems = ("feature_extraction_image1", "feature_extraction_image2")
        return Weights(
            weights.name,
            "c2-matching",
            {},
            dict.fromkeys(stems, weights.params),
            weights.sha256,
            weights.licence,
            weights.notes,
        )
    if file is None:
        raise InputError(
            "C2-Matching's extractor is needed; get feature_extraction_network.pth, which"
            " github.com/yumingj/C2-Matching links to, and give it as --extractor FILE"
        )
    return load_weights(file, network="c2-matching", progress=progress)


def load_mrefsr(
    restoration: str | Path | None,
    *,
    extractor: str | Path | None = None,
    vgg: str | Path | None = None,
    progress: Callable[[str], object] = print,
) -> MRefSRModel:
    """Load all three networks.

    Args:
        restoration: an official checkpoint of MRefSR, or an export of `train.py`.
        extractor, vgg: files with what the restoration network was trained with; None: fetched, if possible.
        progress: receives lines of text while weights are fetched.

    Raises:
        InputError: a file is missing, cannot be fetched or read, or is of another network.
    """
    if restoration is None:
        raise InputError(NEEDED)
    weights = load_weights(restoration, network="mrefsr", progress=progress)
    config = weights.config
    parts = {
        "restoration": weights,
        "features": load_features(config["encoder"], vgg, progress),
        "extractor": load_extractor(config["matches"], extractor, progress),
    }
    return MRefSRModel(
        net=MRefSR(blocks=config["blocks"], band_pixels=BAND_PIXELS),
        params={name: part.params for name, part in parts.items()},
        title=method_title(config),
        sha256={name: part.sha256 for name, part in parts.items()},
    )


def list_mrefsr_components(blocks: int = 16) -> list[Component]:
    """The networks and their main parts, with their numbers of parameters; the last row is the sum."""
    small = (1, 16, 16, 3)
    net = restoration_shapes(MRefSR(blocks=blocks))
    rows = [
        Component(
            0,
            "extractor",
            count_parameters(parameter_shapes(Extractor(), small, small)),
            "features for matching",
        ),
        Component(
            0,
            "features",
            count_parameters(parameter_shapes(VGG(), small)),
            "VGG up to relu3_1, of references",
        ),
        Component(0, "restoration", count_parameters(net), "an LR frame x4, with its references"),
        Component(
            1, "content_extractor", count_parameters(net["content_extractor"]), "features of the LR frame"
        ),
    ]
    for name, (step, _) in SIZES.items():
        level = net[f"dyn_agg_restore_{name}"]
        dynamic = [level[kind] for kind in ("offset_conv1", "offset_conv2", "dyn_agg")]
        rest = count_parameters(level) - count_parameters(dynamic) - count_parameters(level["head"])
        rows += [
            Component(1, name, count_parameters(level), f"at x{step} of the LR size"),
            Component(2, "dyn_agg", count_parameters(dynamic), "dynamic aggregation of each reference"),
            Component(2, "head", count_parameters(level["head"]), "attention to all references, and fusion"),
            Component(2, "body, tail", rest, "residual blocks, and the next size"),
        ]
    return [*rows, Component(0, "total", sum(row.parameters for row in rows if row.level == 0), "")]
