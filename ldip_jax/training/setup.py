"""The parts of a run: the network, its frozen and trainable parameters, and how they are exported."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ldip_jax.errors import InputError
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.networks import BACKBONES
from ldip_jax.models.networks.basicvsr import BasicVSR
from ldip_jax.models.trainable import INITIALISERS, initialise, trainable_modules
from ldip_jax.training.config import Config
from ldip_jax.training.hrip_start import difference_start
from ldip_jax.training.state import tree_sha256
from ldip_jax.weights.export import Export, load_export, save_export
from ldip_jax.weights.flow import flow_identity, load_flow
from ldip_jax.weights.load import Weights, load_weights, save_weights

HEAD = ("as_head", "as_decoder")
TRAINABLE = (("lrrf",), HEAD)


@dataclass(frozen=True)
class Run:
    """The parts of a run.

    Attributes:
        net: the modules.
        backbone: the frozen network's weights.
        frozen: frozen parameters by component: "backbone", and the head that LRRF is trained on, if any.
        params: trainable parameters at the start, by component.
        modules: the components' settings, as an export stores them.
        flow: the network whose optical flow HRIP follows; None for the backbone's own flow.
    """

    net: LDIP
    backbone: Weights
    frozen: dict[str, Any]
    params: dict[str, Any]
    modules: dict[str, Any]
    flow: Weights | None = None

    def describe(self) -> str:
        """A line that says which components are trained, and on which backbone."""
        count = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        return f"training {', '.join(self.params)} ({count:,} parameters) on {self.backbone.name}"

    def frozen_sha256(self) -> dict[str, str]:
        """The sha256 of each set of frozen weights, by name. A checkpoint needs the same ones."""
        components = {name: tree_sha256(tree) for name, tree in self.frozen.items() if name != "backbone"}
        flow = {} if self.flow is None else {"flow": self.flow.sha256}
        return {self.backbone.name: self.backbone.sha256, **components, **flow}

    def export(self, path: str | Path, trained: Mapping[str, Any], provenance: dict[str, str]) -> None:
        """Write trained parameters, with the frozen head they need, as a file for `ldip upscale --lrrf`."""
        head = {name: tree for name, tree in self.frozen.items() if name != "backbone"}
        groups = jax.tree.map(np.asarray, {**head, **trained})
        save_export(path, Export(groups, self.modules, self.backbone.name, self.backbone.sha256, provenance))


def any_scale(config: Config) -> bool:
    """Whether samples have other scales than the backbone's own x4."""
    return tuple(config.data.scale) != (4.0, 4.0)


def module_config(config: Config, groups: set[str]) -> dict[str, Any]:
    """The part of a run's config that an export stores."""
    options = {"lrrf": config.lrrf, "as_head": config.as_head}
    modules = {name: asdict(value) for name, value in options.items() if name in groups}
    propagation = {"propagation": config.propagation, "hrip_reach": 0}
    return {**modules, "hook": config.hook, **(propagation if "lrrf" in groups else {})}


def frozen_backbone(name: str, workdir: str | Path, progress=print) -> Weights:
    """The backbone's weights by name or file; "seeded" is a small one with random weights, created here.

    To upscale with what was trained on "seeded", give `WORKDIR/backbone.safetensors` as the backbone.
    """
    if name != "seeded":
        return load_weights(name, network=tuple(BACKBONES), progress=progress)
    path = Path(workdir) / "backbone.safetensors"
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{path.parent}: cannot be created ({error.strerror}); choose another --workdir"
            ) from error
        save_weights(path, seeded_backbone())
    return load_weights(path, network=tuple(BACKBONES))


def seeded_backbone() -> Weights:
    """A BasicVSR with one residual block per branch, the published width and random weights."""
    network = BasicVSR(num_blocks=1)
    frames = jnp.zeros((1, 2, 8, 8, 3))
    drawn = initialise(lambda key: network.init(key, frames)["params"], jax.random.key(0))
    params = jax.tree.map(np.asarray, drawn)
    config = {"mid_channels": 64, "num_blocks": 1}
    return Weights("seeded", "basicvsr", config, params, tree_sha256(params), "none: random numbers", [])


def make_run(config: Config, workdir: str | Path, progress=print) -> Run:
    """Load the frozen weights, and initialise or load the trainable components.

    Args:
        workdir: where the backbone "seeded" is stored.

    Raises:
        InputError: weights that cannot be loaded or do not fit; or a config that asks for something unknown.
    """
    trains = tuple(config.trains)
    if trains not in TRAINABLE:
        choices = " or ".join(map(repr, TRAINABLE))
        raise InputError(f"config.trains={trains!r}: one of {choices} can be trained at a time")
    backbone = frozen_backbone(config.backbone, workdir, progress)
    initial, options = _load_initial(config.init_from, backbone)
    # LRRF for any scale needs a head: one that was trained before, or an untrained one.
    groups = {*trains, *(HEAD if any_scale(config) or "as_head" in initial else ())}
    modules = module_config(config, groups)
    if "as_head" in initial and "as_head" not in trains:
        modules["as_head"] = options["as_head"]
    try:
        components = trainable_modules(groups, modules, config.band_pixels or None)
        if "lrrf" in components:
            components["lrrf"] = components["lrrf"].clone(keep_features=True)
    except TypeError as error:
        raise InputError(f"config: {error}") from error
    network = BACKBONES[backbone.network](**backbone.config, band_pixels=config.band_pixels or None)
    net = LDIP(
        network,
        **components,
        hook=config.hook,
        remat_frames=config.remat_frames,
        propagation=config.propagation,
    )
    keys = dict(
        zip(INITIALISERS, jax.random.split(jax.random.key(config.seed), len(INITIALISERS)), strict=True)
    )
    params, frozen = {}, {"backbone": backbone.params}
    for name in groups:
        init = partial(INITIALISERS[name], components[name])
        tree: Any = initial[name] if name in initial else initialise(init, keys[name])
        (params if name in trains else frozen)[name] = tree
    if "lrrf" in params and config.hrip_start == "difference":
        params["lrrf"] = {**params["lrrf"], "hrip": difference_start(params["lrrf"]["hrip"])}
    if "as_decoder" in params and config.decoder_start == "backbone":
        params["as_decoder"] = _decoder_of_backbone(backbone, params["as_decoder"], "as_decoder" in initial)
    flow = load_flow(config.flow, progress) if "lrrf" in groups else None
    if flow is not None:
        modules["flow"] = flow_identity(flow)
    return Run(net, backbone, frozen, params, modules, flow)


def _load_initial(init_from: str, backbone: Weights) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and their modules' options, by component, from all exports that `init_from` names."""
    initial: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for path in filter(None, init_from.split(",")):
        export = load_export(path, backbone=backbone)
        if twice := set(initial) & set(export.groups):
            raise InputError(
                f"config.init_from: {path} has {', '.join(sorted(twice))} a second time; name one export"
                " for each"
            )
        initial.update(export.groups)
        options.update({name: export.config.get(name, {}) for name in export.groups})
    return initial, options


def _decoder_of_backbone(backbone: Weights, untrained: Mapping[str, Any], is_trained: bool) -> dict[str, Any]:
    """The layers with which the backbone makes its own image: features then mean the same to both.

    Raises:
        InputError: the decoder is trained already, or the backbone's has other sizes.
    """
    field = "config.decoder_start=backbone"
    if is_trained:
        raise InputError(f"{field}: the decoder is trained already; set it to plain")
    decoder = {name: backbone.params[name] for name in untrained}
    shapes = [jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (decoder, dict(untrained))]
    if shapes[0] != shapes[1]:
        raise InputError(f"{field}: the decoder of {backbone.name} has other sizes; set it to plain")
    return decoder
