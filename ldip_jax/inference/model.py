"""Puts a model together for a clip: weights, components and output size; and lists LDIP's components."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ldip_jax.errors import InputError
from ldip_jax.models.arbitrary_scale import (
    ArbitraryScale,
    ArbitraryScaleDecoder,
    init_decoder,
    init_head,
)
from ldip_jax.models.decoder import HOOKS
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.lrrf import LRRF, init_lrrf
from ldip_jax.models.networks import BACKBONES
from ldip_jax.models.trainable import trainable_modules
from ldip_jax.untrusted import printable
from ldip_jax.weights.catalogue import CATALOGUE
from ldip_jax.weights.export import Export, export_file, load_export, shipped_export, shipped_names
from ldip_jax.weights.flow import OWN_FLOW, flow_identity, flow_network, known_flow, load_flow
from ldip_jax.weights.load import Weights, load_weights, network_of

BAND_PIXELS = 2**14


@dataclass(frozen=True)
class Model:
    """A network ready to be compiled.

    Attributes:
        net: the modules.
        params: their parameters, one group per module: `backbone`, `lrrf`, `as_head`, `as_decoder`,
            `flow_net`.
        backbone: the backbone's weights and where they are from.
        export: the trained components, or None for only the backbone.
        arbitrary: whether the arbitrary-scale head makes the HR features.
        notes: lines to show to the user.
    """

    net: LDIP
    params: dict[str, Any]
    backbone: Weights
    export: Export | None
    arbitrary: bool
    notes: list[str] = field(default_factory=list)

    @property
    def refined(self) -> bool:
        """Whether the model contains LRRF."""
        return self.net.lrrf is not None

    @property
    def title(self) -> str:
        """The backbone's name with the components on it, or followed by "only"."""
        components = {"LRRF": self.refined, "the arbitrary-scale head": self.arbitrary}
        there = " and ".join(name for name, is_there in components.items() if is_there)
        return f"{self.backbone.name} with {there}" if there else self.backbone_only

    def without_components(self) -> "Model":
        """Only the backbone."""
        net = LDIP(self.net.backbone, hook=self.net.hook)
        return Model(net, {"backbone": self.params["backbone"]}, self.backbone, None, arbitrary=False)

    @property
    def backbone_only(self) -> str:
        """What to call the backbone without any component."""
        return f"{self.backbone.name} only"


def make_network(
    export: Export | None,
    backbone: Weights,
    band_pixels: int | None = BAND_PIXELS,
    flow: Weights | None = None,
) -> LDIP:
    """The modules of a backbone, of an export's groups, and of the flow network that detail follows."""
    network = BACKBONES[backbone.network](**backbone.config, band_pixels=band_pixels)
    if export is None:
        return LDIP(network)
    modules = trainable_modules(export.groups, export.config, band_pixels)
    hook = export.config.get("hook", HOOKS[0])
    return LDIP(
        network,
        **modules,
        hook=hook,
        flow_net=flow_network(flow),
        propagation=export.propagation,
        hrip_reach=export.hrip_reach,
    )


def load_model(
    backbone: str | Path,
    lrrf: str | Path,
    *,
    native: bool,
    has_stills: bool = True,
    flow: str | Path | None = None,
    progress=print,
) -> Model:
    """Load weights and put the model together.

    Args:
        backbone: name or file of the backbone's weights.
        lrrf: "default": the weights shipped for that backbone at x4, if there are any. They are used at every
            scale, because x4 with a resize has been the best so far. "none": only the backbone. Otherwise,
            the name of shipped weights, or the file of an export.
        native: whether the output is exactly as large as the backbone's own, x4 or same size.
        has_stills: whether there are stills. Without any, "default" leaves out weights whose metadata say
            that they gain only from stills.
        flow: the network whose optical flow LRRF follows. "spynet": the backbone's own. Otherwise, name or
            file. None: the one that LRRF was trained with.
        progress: receives lines of text while weights are fetched.

    Raises:
        InputError: weights cannot be found, fetched or read, or do not belong together.
    """
    if lrrf not in ("default", "none"):
        lrrf = export_file(lrrf)
        if not lrrf.is_file():
            names = ", ".join(("default", "none", *shipped_names()))
            raise InputError(f"{lrrf}: no such file of LRRF weights; give {names}, or an export")
    weights = load_weights(backbone, network=tuple(BACKBONES), progress=progress)
    notes: list[str] = []
    export = None
    if lrrf == "default":
        # The file of named weights gets the same default as the name.
        names = (entry.name for entry in CATALOGUE.values() if entry.holds(weights.sha256))
        name = next(names, weights.name)
        shipped = shipped_export(name, "x4")
        if shipped is None:
            notes.append(f"no LRRF weights are shipped for {weights.name}: only the backbone runs")
        else:
            export = load_export(shipped, backbone=weights)
            if not has_stills and export.gains_only_from_stills:
                export = None
                own_scale = shipped_export(name, "x4-self") or shipped
                notes.append(
                    "no reference images, and the shipped weights gain only from these: only the backbone"
                    f" runs (--lrrf {own_scale.stem} runs LRRF anyway)"
                )
    elif lrrf != "none":
        export = load_export(lrrf, backbone=weights)
    flow_weights = None
    if export is not None and "lrrf" in export.groups:
        flow_weights = _load_followed_flow(flow, export, notes, progress)
    elif flow not in (None, OWN_FLOW):
        network_of(flow)
        notes.append(f"flow {flow}: ignored, because only LRRF uses it")
    net = make_network(export, weights, flow=flow_weights)
    params = {"backbone": weights.params, **(export.groups if export else {})}
    if flow_weights is not None:
        params["flow_net"] = flow_weights.params
    arbitrary = net.as_head is not None
    own_scale = net.backbone.scale
    if arbitrary and own_scale == 1:
        raise InputError(
            f"{lrrf}: arbitrary-scale weights, which cannot be used with {weights.name}, which only restores"
        )
    if not native and not arbitrary:
        done = f"upscaled by {own_scale}" if own_scale > 1 else "restored at the same size"
        notes.append(
            f"these weights are trained for x{own_scale}: {done}, then resized (antialiased bicubic)"
        )
    return Model(net, params, weights, export, arbitrary, notes)


def _load_followed_flow(
    requested: str | Path | None, export: Export, notes: list[str], progress
) -> Weights | None:
    """The flow network asked for, or the one that LRRF was trained with; if they differ, a note says so."""
    trained = export.config.get("flow", flow_identity(None))
    # If LRRF was trained with a file of the user's own, that file cannot be found from here.
    weights = load_flow(requested or known_flow(trained["sha256"]) or OWN_FLOW, progress)
    now = flow_identity(weights)
    if now["sha256"] != trained["sha256"]:
        notes.append(
            f"LRRF was trained with the optical flow {printable(trained['name'])}, and follows {now['name']}"
            + ("" if requested else "; give the file as --flow")
        )
    return weights


def native_scale(backbone: str | Path) -> int:
    """How much larger a backbone's own output is than its input: 4, or 1 if it only restores.

    Args:
        backbone: name or file of its weights, which are not fetched.

    Raises:
        InputError: there is no such name or file, or it does not hold weights of a known network.
    """
    network, config = network_of(backbone)
    # Weights of a network that is not a backbone are refused when they are loaded.
    return BACKBONES[network.name](**config).scale if network.name in BACKBONES else 4


def restoring_names() -> list[str]:
    """Names of the weights of networks that restore frames at the same size."""
    return [
        entry.name
        for entry in CATALOGUE.values()
        if entry.network in BACKBONES and native_scale(entry.name) == 1
    ]


def output_size(
    size: tuple[int, int], scale: float | None, requested: tuple[int, int] | None, native: int = 4
) -> tuple[int, int]:
    """(height, width) of the output: round(h s) x round(w s), or the size asked for.

    Args:
        size: (height, width) of the LR frames.
        scale: s, by default `native`.
        requested: the (height, width) asked for, or None.
        native: how much larger the backbone's own output is.

    Raises:
        InputError: a scale outside 1 to 8, on either axis.
    """
    h, w = size
    if requested is None:
        scale = native if scale is None else scale
        if not 1.0 <= scale <= 8.0:
            raise InputError(f"scale {scale:g}: it must be between 1 and 8")
        return round(h * scale), round(w * scale)
    scales = (requested[0] / h, requested[1] / w)
    if not all(1.0 <= value <= 8.0 for value in scales):
        raise InputError(
            f"size {requested[1]}x{requested[0]}: x{scales[1]:.2f} the width and x{scales[0]:.2f} the height"
            f" of {w}x{h}; both must be between 1 and 8"
        )
    return requested


class Component(NamedTuple):
    """One row of the list of components: nesting level, name, number of parameters, and what it is."""

    level: int
    name: str
    parameters: int
    description: str


def count_parameters(tree) -> int:
    """Number of parameters in a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def list_components(network: str, backbone: Mapping[str, Any]) -> list[Component]:
    """A backbone and all components of LDIP.

    Args:
        network: the backbone's name.
        backbone: its parameters, or their shapes.
    """
    key = jax.random.key(0)
    lrrf = jax.eval_shape(lambda key: init_lrrf(LRRF(), key), key)
    head = jax.eval_shape(lambda key: init_head(ArbitraryScale(), key), key)
    decoder = jax.eval_shape(lambda key: init_decoder(ArbitraryScaleDecoder(), key), key)
    return [
        Component(0, network, count_parameters(backbone), "the backbone, frozen"),
        *(Component(1, name, count_parameters(tree), "") for name, tree in backbone.items()),
        Component(0, "lrrf", count_parameters(lrrf), "the trainable module"),
        Component(1, "ref_align", count_parameters(lrrf["ref_align"]), "features of a reference"),
        Component(
            1, "ref_fusion", count_parameters(lrrf["ref_fusion"]), "references into a key-frame, by ICA"
        ),
        Component(
            1, "hrip", count_parameters(lrrf["hrip"]), "detail from frame to frame, backward and forward"
        ),
        Component(
            0, "as_head", count_parameters(head), "HR features at any scale, in place of the backbone's x4"
        ),
        Component(0, "as_decoder", count_parameters(decoder), "its decoder"),
    ]
