"""Narrow networks with random weights, in files, for tests that start from names, files and flags."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ldip_jax.models.trainable import trainable_shapes
from ldip_jax.weights.export import Export, save_export
from ldip_jax.weights.identify import NETWORKS
from ldip_jax.weights.load import Weights, save_weights
from ldip_jax.weights.rules import flatten, nest
from tests.models.random_models import NARROW
from tests.weights.forge import write_pth
from tests.weights.narrow import spynet_arrays

# (height, width) of frames and of x4, the same in all tests so that programs are compiled only once.
LR, HR = (8, 10), (32, 40)


class Networks(NamedTuple):
    """Files: a backbone, another one, LRRF for the first; and one of 64 channels with head and decoder."""

    backbone: Path
    other: Path
    trained: Path
    untrained: Path
    wide: Path
    head: Path


def random_like(shapes: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Random parameters with the given shapes, which preserve the scale of signals."""

    def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
        noise = rng.standard_normal(shape).astype(np.float32)
        if name.endswith("kernel"):
            return noise / np.float32(np.sqrt(np.prod(shape[:-1])))
        return np.float32(name.endswith("scale")) + np.float32(0.02) * noise

    return nest({name: fill(name, leaf.shape) for name, leaf in flatten(shapes).items()})


def silent(lrrf: dict[str, Any]) -> dict[str, Any]:
    """The same LRRF with zeros where an untrained one has them."""
    flat = flatten(lrrf)
    last = [name for name in flat if "conv_r/" in name or ("hrip" in name and "conv_last/" in name)]
    assert len(last) == 6, last
    return nest({name: np.zeros_like(leaf) if name in last else leaf for name, leaf in flat.items()})


def random_backbone(seed: int, network: str = "basicvsr", **config: int) -> Weights:
    """A backbone with random weights; narrow by default."""
    config = {**NETWORKS[network].config({}), **NARROW, **config}
    params = random_like(NETWORKS[network].skeleton(config), np.random.default_rng(seed))
    for level in params["spynet"].values():
        # Flows of about a pixel, nearly consistent forwards and backwards: others would never be trusted.
        level["basic_module_8"]["kernel"] *= np.float32(0.03)
        level["basic_module_8"]["bias"] *= np.float32(0.03)
    return Weights(f"random{seed}", network, config, params, f"{seed:064x}", "none", [])


def random_export(backbone: Weights, groups: tuple[str, ...] = ("lrrf",)) -> Export:
    """A full-size LRRF, or head and decoder, with random weights that do something."""
    config = {"lrrf": {"feature_scale": 0.5}} if "lrrf" in groups else {}
    shapes = trainable_shapes(groups, config, "test")
    return Export(random_like(shapes, np.random.default_rng(7)), config, backbone.name, backbone.sha256, {})


def write_flow(path: Path) -> Path:
    """A SPyNet that always finds about the same motion, (2, -1) pixels, as a checkpoint."""
    arrays = {
        name: 0.0 * array for name, array in spynet_arrays().items() if not name.endswith(("mean", "std"))
    }
    for level in range(6):
        arrays[f"basic_module.{level}.basic_module.8.bias"] = np.array([2.0, -1.0], np.float32) / 63
    return write_pth(path, arrays)


@cache
def _contents() -> tuple[Weights | Export, ...]:
    """The contents of `Networks`, in order."""
    backbone, wide = random_backbone(1), random_backbone(3, mid_channels=64, num_blocks=1)
    trained = random_export(backbone)
    untrained = replace(trained, groups={"lrrf": silent(trained.groups["lrrf"])})
    head = random_export(wide, ("as_head", "as_decoder"))
    return backbone, random_backbone(2), trained, untrained, wide, head


def write_networks(folder: Path) -> Networks:
    """All of `Networks` in a folder."""
    networks = Networks(*(folder / f"{name}.safetensors" for name in Networks._fields))
    for path, content in zip(networks, _contents(), strict=True):
        (save_export if isinstance(content, Export) else save_weights)(path, content)
    return networks


class MRefSRFiles(NamedTuple):
    """Files: MRefSR's restoration network with one residual block per stack, extractor and VGG-19."""

    restoration: Path
    extractor: Path
    vgg: Path


def write_mrefsr(folder: Path, **config: str) -> MRefSRFiles:
    """All of `MRefSRFiles` in a folder, with random weights; `config` says what they were trained with."""
    files = MRefSRFiles(*(folder / f"{name}.safetensors" for name in MRefSRFiles._fields))
    vgg = {**NETWORKS["mrefsr"].config({}), **config}["encoder"]
    for seed, (path, name) in enumerate(zip(files, ("mrefsr", "c2-matching", vgg), strict=True)):
        network = NETWORKS[name]
        settings = network.config({}) | ({"blocks": 1, **config} if name == "mrefsr" else {})
        params = random_like(network.skeleton(settings), np.random.default_rng(seed))
        save_weights(path, Weights(path.stem, name, settings, params, f"{seed:064x}", "none", []))
    return files


def mrefsr_flags(files: MRefSRFiles) -> tuple[object, ...]:
    """The flags with which commands run MRefSR."""
    names = zip(("--mrefsr", "--extractor", "--vgg"), files, strict=True)
    return ("--method", "mrefsr", *(word for pair in names for word in pair))
