"""Checkpoint files of every kind, told apart by content, as one flat dict of arrays."""

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ldip_jax.atomic import atomic_open
from ldip_jax.errors import InputError
from ldip_jax.weights.limits import damage_named, open_zip, printable
from ldip_jax.weights.pth import read_pth, widen_bfloat16

WRAPPERS = ("params_ema", "params", "state_dict", "model")
MAX_NAME = 500
PREFIXES = ("module.", "generator_ema.", "generator.")
# Counters of training, of averaging (mmengine's and torch's) and of norms, and the input's statistics.
NO_WEIGHTS = re.compile(r"step_counter|steps|n_averaged|data_preprocessor\..*|.*\.num_batches_tracked")
SAFETENSORS_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "<u1",
    "BOOL": "?",
}


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        arrays: every array by its name in the file, without wrappers and common prefixes.
        metadata: the text entries of a `.safetensors` file.
        layout: "pytorch", "safetensors" or "npz".
        notes: what was unwrapped, stripped or left out, a line each.
    """

    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]
    layout: str
    notes: list[str]


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a PyTorch (zip or older), `.safetensors` or `.npz` file, or a pickle of NumPy arrays.

    bfloat16 becomes float32; other types stay. Nothing in the file is ever executed.

    Raises:
        InputError: no such file, damaged, not weights, or holding anything but arrays and plain containers.
    """
    path = Path(path)
    try:
        with damage_named(path):
            layout = _layout(path)
            if layout == "safetensors":
                arrays, metadata = _read_safetensors(path)
                return _unwrapped(path, arrays, metadata, layout)
            if layout == "npz":
                return _unwrapped(path, _read_npz(path), {}, layout)
            return _unwrapped(path, read_pth(path), {}, layout)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error


def write_safetensors(
    path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write a `.safetensors` file, whole or not at all; replaces what was there."""
    content = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    data = safetensors.numpy.save(content, dict(metadata))
    with atomic_open(path) as file:
        file.write(data)


def _layout(path: Path) -> str:
    """Which reader fits the first bytes of the file."""
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
    if len(head) > 8 and head[8:9] == b"{":
        return "safetensors"
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: a Git LFS pointer instead of weights; get the file itself (git lfs pull)")
    if head.lstrip()[:1] == b"<":
        raise InputError(f"{path}: a web page instead of weights; download the file again")
    if head.startswith(b"\x80"):
        return "pytorch"
    raise InputError(f"{path}: not a checkpoint (.pth, .safetensors or .npz expected, judged by content)")


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    data = path.read_bytes()
    try:
        entries = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None
    (length,) = struct.unpack("<Q", data[:8])
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    arrays = {}
    for name, entry in sorted(entries, key=lambda item: item[0]):
        kind = entry["dtype"]
        if kind not in SAFETENSORS_TYPES:
            raise InputError(f"{path}: numbers of type {kind} are not read here; save them as float32")
        array = np.frombuffer(entry["data"], SAFETENSORS_TYPES[kind]).reshape(entry["shape"])
        arrays[name] = widen_bfloat16(array) if kind == "BF16" else array
    return arrays, metadata


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
    # Wrappings come inside one another, in any order.
    while prefix := _strip_weightless(arrays, notes):
        inside = {name: array for name, array in arrays.items() if name.startswith(prefix)}
        left = len(arrays) - len(inside)
        notes.append(f"stripped {prefix!r}" + (f", left out {left} other entries" if left else ""))
        arrays = {name.removeprefix(prefix): array for name, array in inside.items()}
    if not arrays:
        raise InputError(f"{path}: holds no weights; check the file")
    return Checkpoint(arrays, metadata, layout, notes)


def _strip_weightless(arrays: dict[str, np.ndarray], notes: list[str]) -> str | None:
    """Leave out what is no weight; returns the prefix that the rest is wrapped in, if any."""
    for name in [name for name in arrays if NO_WEIGHTS.fullmatch(name)]:
        notes.append(f"left out {name}")
        del arrays[name]
    for prefix in PREFIXES:
        others = [name for name in arrays if not name.startswith(prefix)]
        # Where a file holds both, the averaged generator is the one to run.
        averaged = prefix == "generator_ema." and all(name.startswith("generator.") for name in others)
        if len(others) < len(arrays) and (averaged or not others):
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
            notes.append(f"left out {name}, which is no array")
