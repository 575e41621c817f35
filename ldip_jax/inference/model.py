"""Putting a model together for a clip: which weights, which scale, which head."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ldip_jax.errors import InputError
from ldip_jax.models.assemble import trainable_modules
from ldip_jax.models.backbone import BACKBONES
from ldip_jax.models.decoder import HOOKS
from ldip_jax.models.ldip import LDIP
from ldip_jax.weights.catalogue import CATALOGUE
from ldip_jax.weights.export import Export, export_file, load_export, shipped_export, shipped_names
from ldip_jax.weights.flow import OWN_FLOW, flow_identity, flow_network, known_flow, load_flow
from ldip_jax.weights.limits import printable
from ldip_jax.weights.load import Weights, load_weights, look

BAND_PIXELS = 2**14


@dataclass(frozen=True)
class Model:
    """A network ready to be compiled.

    Attributes:
        net: the modules.
        params: their parameters, one group per box: `backbone`, `lrrf`, `as_head`, `as_decoder`, `flow_net`.
        backbone: the backbone's weights and where they are from.
        export: the LRRF weights, or None for the backbone alone.
        arbitrary: whether the arbitrary-scale head makes the HR features.
        notes: lines that the user should see.
    """

    net: LDIP
    params: dict[str, Any]
    backbone: Weights
    export: Export | None
    arbitrary: bool
    notes: list[str] = field(default_factory=list)

    @property
    def refined(self) -> bool:
        """Whether LRRF is part of it."""
        return self.net.lrrf is not None

    @property
    def title(self) -> str:
        """The backbone's name and what is put on it, or "alone"."""
        boxes = {"LRRF": self.refined, "the arbitrary-scale head": self.arbitrary}
        there = " and ".join(name for name, is_there in boxes.items() if is_there)
        return f"{self.backbone.name} with {there}" if there else self.alone

    @property
    def alone(self) -> str:
        """What to call the backbone where nothing is put on it."""
        return f"{self.backbone.name} alone"


def build(
    export: Export | None,
    backbone: Weights,
    band_pixels: int | None = BAND_PIXELS,
    flow: Weights | None = None,
) -> LDIP:
    """The modules for a backbone, an export's groups and config, and HRIP's own flow network."""
    network = BACKBONES[backbone.network](**backbone.config, band_pixels=band_pixels)
    if export is None:
        return LDIP(network)
    modules = trainable_modules(export.groups, export.config, band_pixels)
    hook = export.config.get("hook", HOOKS[0])
    return LDIP(network, **modules, hook=hook, flow_net=flow_network(flow))


def load_model(
    backbone: str | Path,
    lrrf: str | Path,
    *,
    native: bool,
    stills: bool = True,
    flow: str | Path | None = None,
    progress=print,
) -> Model:
    """Load weights and put the model together.

    Args:
        backbone: name or file of the backbone's weights.
        lrrf: "default" for the shipped weights of that backbone, where there are any, at every scale those of
            x4, for x4 made smaller has been the best yet; "none" for the backbone alone; or the name of
            shipped ones; or the file of an export.
        native: whether the output is exactly as large as the backbone's own, x4 or same size.
        stills: whether there are reference stills; without any, "default" leaves out weights that say of
            themselves that they gain from stills alone.
        flow: the network whose optical flow LRRF follows: "spynet" for the backbone's own; or name or file;
            None for the one that LRRF was trained with.
        progress: receives lines of text while weights are fetched.

    Raises:
        InputError: weights that cannot be had, read, or do not belong together.
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
        # The same weights from a file are as good as by name.
        names = (entry.name for entry in CATALOGUE.values() if entry.holds(weights.sha256))
        name = next(names, weights.name)
        shipped = shipped_export(name, "x4")
        if shipped is None:
            notes.append(f"no LRRF weights are shipped for {weights.name}: the backbone runs alone")
        else:
            export = load_export(shipped, backbone=weights)
            if not stills and export.wants_stills:
                export = None
                own = shipped_export(name, "x4-self") or shipped
                notes.append(
                    "no reference stills, and the weights shipped gain from these alone: the backbone runs"
                    f" alone (--lrrf {own.stem} runs LRRF all the same)"
                )
    elif lrrf != "none":
        export = load_export(lrrf, backbone=weights)
    flow_weights = None
    if export is not None and "lrrf" in export.groups:
        flow_weights = _followed(flow, export, notes, progress)
    elif flow not in (None, OWN_FLOW):
        look(flow)
        notes.append(f"flow {flow}: left out, for without LRRF nothing follows it")
    net = build(export, weights, flow=flow_weights)
    params = {"backbone": weights.params, **(export.groups if export else {})}
    if flow_weights is not None:
        params["flow_net"] = flow_weights.params
    arbitrary = net.as_head is not None
    own = net.backbone.scale
    if arbitrary and own == 1:
        raise InputError(
            f"{lrrf}: arbitrary-scale weights, of no use for {weights.name}, which restores only"
        )
    if not native and not arbitrary:
        done = f"upscaled by {own}" if own > 1 else "restored at the same size"
        notes.append(f"these weights are trained for x{own}: {done}, then resized (antialiased bicubic)")
    return Model(net, params, weights, export, arbitrary, notes)


def _followed(asked: str | Path | None, export: Export, notes: list[str], progress) -> Weights | None:
    """The flow network asked for, or the one that LRRF was trained with; another one than that is told."""
    trained = export.config.get("flow", flow_identity(None))
    # What was trained with a file of the user's cannot be found by itself.
    weights = load_flow(asked or known_flow(trained["sha256"]) or OWN_FLOW, progress)
    now = flow_identity(weights)
    if now["sha256"] != trained["sha256"]:
        notes.append(
            f"LRRF was trained with the optical flow {printable(trained['name'])}, and follows {now['name']}"
            + ("" if asked else "; give the file as --flow")
        )
    return weights


def native_scale(backbone: str | Path) -> int:
    """How much larger a backbone's own output is than its input: 4, or 1 for one that only restores.

    Args:
        backbone: name or file of its weights, which are not fetched.

    Raises:
        InputError: no such name or file, or of no backbone.
    """
    network, config = look(backbone)
    # What is no backbone is told when its weights are loaded.
    return BACKBONES[network.name](**config).scale if network.name in BACKBONES else 4


def output_size(
    size: tuple[int, int], scale: float | None, explicit: tuple[int, int] | None, native: int = 4
) -> tuple[int, int]:
    """HR (height, width) for LR `size`: round(h s), or the size asked for.

    Args:
        size: of the frames.
        scale: s, by default `native`.
        explicit: the size asked for.
        native: how much larger the backbone's own output is.

    Raises:
        InputError: a scale outside of 1 to 8, on either axis.
    """
    h, w = size
    if explicit is None:
        scale = native if scale is None else scale
        if not 1.0 <= scale <= 8.0:
            raise InputError(f"scale {scale:g}: it must be between 1 and 8")
        return round(h * scale), round(w * scale)
    scales = (explicit[0] / h, explicit[1] / w)
    if not all(1.0 <= value <= 8.0 for value in scales):
        raise InputError(
            f"size {explicit[1]}x{explicit[0]}: x{scales[1]:.2f} the width and x{scales[0]:.2f} the height of"
            f" {w}x{h}; both must be between 1 and 8"
        )
    return explicit
