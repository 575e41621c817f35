"""Weights by name or file: fetched if need be, read, converted, checked."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ldip_jax.errors import InputError
from ldip_jax.weights.catalogue import CATALOGUE, nearest
from ldip_jax.weights.fetch import Progress, fetch, file_sha256
from ldip_jax.weights.formats import Checkpoint, read_checkpoint, write_safetensors
from ldip_jax.weights.identify import NETWORKS, identify
from ldip_jax.weights.rules import check_params, convert, flatten, nest
from ldip_jax.weights.unpickle import damage_named

FORMAT = "ldip-weights-1"
EXPORT_FORMAT = "ldip-1"


@dataclass(frozen=True)
class Weights:
    """A network's parameters and where they come from.

    Attributes:
        name: the name in the catalogue, or the file's.
        network: "basicvsr", "spynet", "gmflow".
        config: the module's hyper-parameters: `BasicVSR(**config)`.
        params: nested dict of float32 NumPy arrays, Flax's names and layout.
        sha256: of the original checkpoint file, whichever file it was converted to since.
        licence: name and holder, as far as known.
        notes: what was unwrapped, stripped or left out on the way, a line each.
    """

    name: str
    network: str
    config: dict[str, int]
    params: dict[str, Any]
    sha256: str
    licence: str
    notes: list[str]


def load_weights(
    name_or_path: str | Path, *, network: str | Collection[str] | None = None, progress: Progress = print
) -> Weights:
    """Load a network's weights.

    Args:
        name_or_path: a name of the catalogue, fetched unless it is in the cache; or an official or converted
            checkpoint file of any kind that `read_checkpoint` reads.
        network: the network, or networks, that will do; by default any that is known.
        progress: receives lines of text while fetching.

    Raises:
        InputError: unknown name, no such file, damaged, of another network, or faults in the conversion.
    """
    entry = CATALOGUE.get(str(name_or_path))
    path = fetch(entry.name, progress=progress) if entry else Path(name_or_path)
    if not entry and not path.exists():
        raise InputError(
            f"{name_or_path}: neither a file nor a name of weights{nearest(str(name_or_path))}; see"
            " `ldip weights list`"
        )
    if entry and entry.network not in NETWORKS:
        raise InputError(f"{entry.name}: {entry.summary}, not weights of a network that can be loaded here")
    checkpoint = read_checkpoint(path)
    name = entry.name if entry else path.name
    licence = entry.licence if entry else "unknown: see where the file comes from"
    if checkpoint.metadata.get("format") == FORMAT:
        weights = _converted(path, checkpoint)
    else:
        weights = _original(path, checkpoint, name, licence)
    wanted = {network} if isinstance(network, str) else network
    if wanted and weights.network not in wanted:
        expected = " or ".join(NETWORKS[key].title if key in NETWORKS else key for key in wanted)
        found = NETWORKS[weights.network].title
        raise InputError(f"{name_or_path}: holds weights of {found}; weights of {expected} are needed")
    return weights


def save_weights(path: str | Path, weights: Weights) -> None:
    """Write weights as a `.safetensors` file that `load_weights` reads back as they are."""
    metadata = {
        "format": FORMAT,
        "network": weights.network,
        "config": json.dumps(weights.config, sort_keys=True),
        "name": weights.name,
        "sha256": weights.sha256,
        "licence": weights.licence,
    }
    write_safetensors(path, flatten(weights.params), metadata)


def _original(path: Path, checkpoint: Checkpoint, name: str, licence: str) -> Weights:
    if checkpoint.metadata.get("format") == EXPORT_FORMAT:
        raise InputError(f"{path}: an LRRF export, not a network's checkpoint; give it as --lrrf")
    network = identify(checkpoint.arrays, str(path))
    config = network.config(checkpoint.arrays)
    what = f"{path}, as {network.title}"
    params, ignored = convert(checkpoint.arrays, network.rules, network.skeleton(config), what)
    notes = checkpoint.notes + [f"left out {key}, a constant of the network" for key in ignored]
    return Weights(name, network.name, config, params, file_sha256(path), licence, notes)


def _converted(path: Path, checkpoint: Checkpoint) -> Weights:
    text = checkpoint.metadata
    with damage_named(path):
        name, sha256, config = text["name"], text["sha256"], json.loads(text["config"])
        if text["network"] not in NETWORKS:
            raise InputError(f"{path}: holds weights of {text['network']!r:.40}, unknown to this version")
        network = NETWORKS[text["network"]]
        skeleton = network.skeleton(config)
        params = nest({key: array.astype(np.float32) for key, array in checkpoint.arrays.items()})
    check_params(params, skeleton, f"{path}, as {network.title}")
    notes = [*checkpoint.notes, f"converted from {name}"]
    return Weights(name, network.name, config, params, sha256, text.get("licence", ""), notes)
