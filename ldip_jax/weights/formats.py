"""Reads checkpoint files of every kind, recognised by content, as one flat dict of arrays."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ldip_jax.atomic import atomic_open
from ldip_jax.errors import InputError
from ldip_jax.untrusted import printable
from ldip_jax.weights.limits import open_zip, reporting_damage
from ldip_jax.weights.pth import read_pth
from ldip_jax.weights.shards import CHECKSUM, content_sha256, is_index, read_safetensors, read_shards

WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model", "net_g")
MAX_NAME = 500
PREFIXES = ("module.", "generator_ema.", "generator.", "model.", "net_g.")
# No network has a part with these names, so everything that is not below them belongs to training.
OUTERMOST = ("model.", "net_g.")
# The prefix that torch.compile adds to the names of compiled modules, at any depth.
COMPILED = "_orig_mod."
# Counters of training, of averaging (mmengine's and torch's) and of norms, and the input's statistics.
NO_WEIGHTS = re.compile(r"step_counter|steps|n_averaged|data_preprocessor\..*|.*\.num_batches_tracked")


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        arrays: every array by its name in the file, without wrappers and common prefixes.
        metadata: the text entries of a `.safetensors` file.
        layout: "pytorch", "safetensors" (one file, or an index of several) or "npz".
        notes: what was unwrapped, stripped or left out, one line each.
        has_checksum: whether a checksum in the file covers all of it.
        sha256: of all files, if there are several; else None.
    """

    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]
    layout: str
    notes: list[str]
    has_checksum: bool = False
    sha256: str | None = None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a PyTorch (zip or older), `.safetensors` or `.npz` file, or a pickle of NumPy arrays.

    If the file is the index of several `.safetensors` files (`model.safetensors.index.json`), these are read.

    bfloat16 becomes float32; other types are kept. Nothing in the file is ever executed.

    Raises:
        InputError: no such file, damaged, not weights, or holding anything but arrays and plain containers.
    """
    path = Path(path)
    try:
        with reporting_damage(path):
            layout = _layout(path)
            if layout == "index":
                arrays, sha256 = read_shards(path)
                return replace(_unwrapped(path, arrays, {}, "safetensors"), sha256=sha256)
            if layout == "safetensors":
                arrays, metadata, has_checksum = read_safetensors(path)
                return replace(_unwrapped(path, arrays, metadata, layout), has_checksum=has_checksum)
            if layout == "npz":
                return _unwrapped(path, _read_npz(path), {}, layout)
            return _unwrapped(path, read_pth(path), {}, layout)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error


def write_safetensors(
    path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write a `.safetensors` file with a checksum, atomically; an existing file is replaced."""
    content = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    data = safetensors.numpy.save(content, dict(metadata))
    checksum = content_sha256(safetensors.deserialize(data), metadata)
    data = safetensors.numpy.save(content, {**metadata, CHECKSUM: checksum})
    with atomic_open(path) as file:
        file.write(data)


def _layout(path: Path) -> str:
    """The layout of the file, recognised by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise InputError(
            f"{path}: {reason}; give a checkpoint file or a name from `ldip weights list`"
        ) from None
    if not head:
        raise InputError(f"{path}: empty; get the file again")
    if head.startswith(b"PK\3\4"):
        with open_zip(path) as archive:
            return "npz" if all(name.endswith(".npy") for name in archive.namelist()) else "pytorch"
    if head.lstrip()[:1] == b"{" and is_index(path):
        return "index"
    if len(head) > 8 and head[8:9] == b"{":
        return "safetensors"
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: a Git LFS pointer instead of weights; get the file itself (git lfs pull)")
    if head.lstrip()[:1] == b"<":
        raise InputError(f"{path}: a web page instead of weights; download the file again")
    if head.startswith(b"\x80"):
        return "pytorch"
    raise InputError(f"{path}: not a checkpoint (.pth, .safetensors or .npz expected, judged by content)")


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _unwrapped(path: Path, content: Any, metadata: dict[str, str], layout: str) -> Checkpoint:
    notes: list[str] = []
    while isinstance(content, dict) and any(isinstance(content.get(key), dict) for key in WRAPPERS):
        key = next(key for key in WRAPPERS if isinstance(content.get(key), dict))
        rest = sorted(str(other) for other in content if other != key)
        notes.append(f"unwrapped {key!r}" + (f", left out {printable(', '.join(rest))}" if rest else ""))
        content = content[key]
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__} instead of named weights; check the file")

    arrays: dict[str, np.ndarray] = {}
    _flatten(content, "", arrays, notes)
    if any(COMPILED in name for name in arrays):
        notes.append(f"stripped {COMPILED!r}")
        arrays = {name.replace(COMPILED, ""): array for name, array in arrays.items()}
    # Wrappers can be nested, in any order.
    while prefix := _strip_weightless(arrays, notes):
        inside = {name: array for name, array in arrays.items() if name.startswith(prefix)}
        left = len(arrays) - len(inside)
        notes.append(f"stripped {prefix!r}" + (f", left out {left} other entries" if left else ""))
        arrays = {name.removeprefix(prefix): array for name, array in inside.items()}
    if not arrays:
        raise InputError(f"{path}: holds no weights; check the file")
    return Checkpoint(arrays, metadata, layout, notes)


def _strip_weightless(arrays: dict[str, np.ndarray], notes: list[str]) -> str | None:
    """Remove what is not a weight; returns the prefix that the rest is wrapped in, if any."""
    for name in [name for name in arrays if NO_WEIGHTS.fullmatch(name)]:
        notes.append(f"left out {name}")
        del arrays[name]
    for prefix in PREFIXES:
        others = [name for name in arrays if not name.startswith(prefix)]
        # If a file holds both, the averaged generator is the one to run.
        averaged = prefix == "generator_ema." and all(name.startswith("generator.") for name in others)
        if len(others) < len(arrays) and (averaged or prefix in OUTERMOST or not others):
            return prefix
    return None


def _flatten(
    content: Mapping[Any, Any], prefix: str, arrays: dict[str, np.ndarray], notes: list[str]
) -> None:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if not name.isprintable() or len(name) > MAX_NAME:
            raise ValueError("a name that cannot be one")
        if isinstance(value, np.ndarray):
            arrays[name] = value
        elif isinstance(value, dict):
            _flatten(value, f"{name}/", arrays, notes)
        else:
            notes.append(f"left out {name}, which is not an array")
