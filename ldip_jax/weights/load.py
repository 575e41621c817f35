"""Loads weights by name or file: fetched if necessary, read, converted and checked."""

import json
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ldip_jax.errors import InputError
from ldip_jax.untrusted import printable
from ldip_jax.weights.catalogue import CATALOGUE, nearest
from ldip_jax.weights.fetch import Progress, fetch, file_sha256
from ldip_jax.weights.formats import Checkpoint, read_checkpoint, write_safetensors
from ldip_jax.weights.identify import NETWORKS, identify
from ldip_jax.weights.limits import reporting_damage
from ldip_jax.weights.network import Network
from ldip_jax.weights.rules import as_params, check_params, convert, flatten, renamed

FORMAT = "ldip-weights-1"
EXPORT_FORMAT = "ldip-1"


@dataclass(frozen=True)
class Weights:
    """A network's parameters and where they come from.

    Attributes:
        name: the name in the catalogue, or the file's name.
        network: a name of `NETWORKS`.
        config: the module's hyper-parameters: `BasicVSR(**config)`.
        params: nested dict of float32 NumPy arrays, Flax's names and layout.
        sha256: of the original checkpoint file, even if the weights come from a converted file.
        licence: name and holder, as far as known.
        notes: what was unwrapped, stripped or left out, one line each.
    """

    name: str
    network: str
    config: dict[str, Any]
    params: dict[str, Any]
    sha256: str
    licence: str
    notes: list[str]


def load_weights(
    name_or_path: str | Path, *, network: str | Collection[str] | None = None, progress: Progress = print
) -> Weights:
    """Load a network's weights.

    Args:
        name_or_path: a name in the catalogue, fetched unless it is in the cache; or an official or converted
            checkpoint file of any kind that `read_checkpoint` reads.
        network: the network or networks that are accepted; by default all known ones.
        progress: receives lines of text while fetching.

    Raises:
        InputError: unknown name, no such file, damaged, of another network, or errors in the conversion.
    """
    entry = CATALOGUE.get(str(name_or_path))
    wanted = {network} if isinstance(network, str) else set(network or NETWORKS)
    if entry and entry.network not in wanted:
        raise InputError(f"{entry.name}: {entry.summary}; weights of {_titles(wanted)} are needed")
    path = fetch(entry.name, progress=progress) if entry else _existing(name_or_path)
    checkpoint = _read(path)
    # Its memory is free for other things once the weights are converted.
    _read_version.cache_clear()
    found, config = _identify(path, checkpoint)
    if found.name not in wanted:
        raise InputError(f"{path}: holds weights of {found.title}; weights of {_titles(wanted)} are needed")
    converted = checkpoint.metadata.get("format") == FORMAT
    weights = (_read_converted if converted else _convert_original)(path, checkpoint, found, config)
    for entry in CATALOGUE.values():
        # Whatever the file is called, and wherever it comes from.
        if entry.holds(weights.sha256):
            return replace(weights, name=entry.name, licence=entry.licence)
    return weights


def network_of(name_or_path: str | Path) -> tuple[Network, dict[str, Any]]:
    """The network that a name or a file holds weights of, and its hyper-parameters; nothing is fetched.

    Raises:
        InputError: no such name or file, damaged, or of an unknown network.
    """
    entry = CATALOGUE.get(str(name_or_path))
    if entry is None:
        path = _existing(name_or_path)
        return _identify(path, _read(path))
    if entry.network is None:
        raise InputError(f"{entry.name}: {entry.summary}; no weights")
    network = NETWORKS[entry.network]
    return network, {**network.config({}), **entry.config}


def _read(path: Path) -> Checkpoint:
    """A checkpoint; it is read and verified once, although its network is asked for before its weights."""
    state = os.stat(path)
    return _read_version(path, state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=2)
def _read_version(path: Path, *version: int) -> Checkpoint:
    return read_checkpoint(path)


def _existing(name_or_path: str | Path) -> Path:
    if not os.path.exists(name_or_path):
        raise InputError(
            f"{name_or_path}: neither a file nor a name of weights{nearest(str(name_or_path))}; see"
            " `ldip weights list`"
        )
    return Path(name_or_path)


def _titles(networks: Collection[str]) -> str:
    return " or ".join(network.title for network in NETWORKS.values() if network.name in networks)


def is_sha256(text: str) -> bool:
    """Whether `text` is a sha256 as this package writes it."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def save_weights(path: str | Path, weights: Weights) -> None:
    """Write weights as a `.safetensors` file that `load_weights` reads back unchanged."""
    metadata = {
        "format": FORMAT,
        "network": weights.network,
        "config": json.dumps(weights.config, sort_keys=True),
        "name": weights.name,
        "sha256": weights.sha256,
        "licence": weights.licence,
    }
    write_safetensors(path, flatten(weights.params), metadata)


def _identify(path: Path, checkpoint: Checkpoint) -> tuple[Network, dict[str, Any]]:
    """The network that a checkpoint belongs to, and its hyper-parameters."""
    text = checkpoint.metadata
    if text.get("format") == EXPORT_FORMAT:
        raise InputError(f"{path}: an LRRF export, not a network's checkpoint; give it as --lrrf")
    if text.get("format") != FORMAT:
        network = identify(checkpoint.arrays, str(path))
        return network, network.config(checkpoint.arrays)
    with reporting_damage(path):
        if text["network"] not in NETWORKS:
            raise InputError(
                f"{path}: holds weights of {printable(text['network'])}, which this version does not know"
            )
        network = NETWORKS[text["network"]]
        config = dict(json.loads(text["config"]))
        fields = {key: type(value) for key, value in network.config({}).items()}
        if {key: type(value) for key, value in config.items()} != fields:
            raise ValueError(f"its config is not one of {network.title}")
    return network, config


def _convert_original(
    path: Path, checkpoint: Checkpoint, network: Network, config: dict[str, Any]
) -> Weights:
    what = f"{path}, as {network.title}"
    params, ignored = convert(checkpoint.arrays, network.rules, network.skeleton(config), what)
    notes = checkpoint.notes + renamed(checkpoint.arrays, network.rules)
    notes += _ignored_notes(ignored, checkpoint)
    licence = "unknown: see where the file comes from"
    sha256 = checkpoint.sha256 or file_sha256(path)
    return Weights(printable(path.name), network.name, config, params, sha256, licence, notes)


def _ignored_notes(ignored: dict[str, str], checkpoint: Checkpoint) -> list[str]:
    """One line for each array, or one line for many that are left out for the same reason."""
    lines = []
    for reason in sorted(set(ignored.values())):
        names = [name for name in ignored if ignored[name] == reason]
        if len(names) <= 4:
            lines += [f"left out {name}, {reason}" for name in names]
            continue
        values = sum(checkpoint.arrays[name].size for name in names)
        ends = sorted({".".join(name.split(".")[-2:]) for name in names})
        lines.append(f"left out {len(names)} arrays ({values:,} values), each {reason}: {', '.join(ends)}")
    return lines


def _read_converted(path: Path, checkpoint: Checkpoint, network: Network, config: dict[str, Any]) -> Weights:
    text = checkpoint.metadata
    with reporting_damage(path):
        name, licence = printable(text["name"]), printable(text["licence"], 500)
        if not is_sha256(text["sha256"]):
            raise ValueError("its sha256 is not valid")
        skeleton = network.skeleton(config)
        params = as_params(checkpoint.arrays)
    check_params(params, skeleton, f"{path}, as {network.title}")
    notes = [*checkpoint.notes, f"converted from {name}"]
    if not checkpoint.has_checksum:
        notes.append("has no checksum of its content, so that damage may go unnoticed; convert it again")
    return Weights(name, network.name, config, params, text["sha256"], licence, notes)
