"""Reads `.safetensors` files: one with a checksum of its content, or several with an index."""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from ldip_jax.errors import InputError
from ldip_jax.untrusted import printable
from ldip_jax.weights.limits import ReadBudget
from ldip_jax.weights.pth import widen_bfloat16

# The entry of a file's metadata that holds the checksum.
CHECKSUM = "content_sha256"
TYPES = {
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
_LONGEST_INDEX = 16 << 20


def content_sha256(entries: Iterable[tuple[str, Any]], metadata: Mapping[str, str]) -> str:
    """A checksum of all arrays, their names, types and shapes, and of the text beside them.

    Args:
        entries: as `safetensors.deserialize` returns them.
        metadata: the text entries; the checksum's own entry is ignored.
    """
    digest = hashlib.sha256()
    for name, entry in sorted(entries, key=lambda item: item[0]):
        digest.update(json.dumps([name, entry["dtype"], list(entry["shape"])]).encode())
        digest.update(entry["data"])
    text = sorted((key, value) for key, value in metadata.items() if key != CHECKSUM)
    digest.update(json.dumps(text).encode())
    return digest.hexdigest()


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str], bool]:
    """The arrays, the text beside them, and whether a checksum covers both.

    Raises:
        ValueError: the file is damaged.
        InputError: numbers of a type that is not supported.
    """
    data = path.read_bytes()
    try:
        entries = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None
    (length,) = struct.unpack("<Q", data[:8])
    metadata: dict[str, str] = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    stated = metadata.pop(CHECKSUM, None)
    if stated is not None and stated != content_sha256(entries, metadata):
        raise ValueError("its content does not match its checksum")
    arrays = {}
    for name, entry in sorted(entries, key=lambda item: item[0]):
        kind = entry["dtype"]
        if kind not in TYPES:
            raise InputError(f"{path}: numbers of type {kind} are not supported; save them as float32")
        array = np.frombuffer(entry["data"], TYPES[kind]).reshape(entry["shape"])
        arrays[name] = widen_bfloat16(array) if kind == "BF16" else array
    return arrays, metadata, stated is not None


def is_index(path: Path) -> bool:
    """Whether a file is the index of weights in several `.safetensors` files."""
    if path.stat().st_size > _LONGEST_INDEX:
        return False
    try:
        return type(json.loads(path.read_bytes())["weight_map"]) is dict
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


def read_shards(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """The arrays of all files that an index names, and a sha256 of these files and the index.

    Raises:
        ValueError: an array is not in its file.
        InputError: a file is missing or would be outside the index's folder.
    """
    text = path.read_bytes()
    wanted: dict[str, str] = json.loads(text)["weight_map"]
    digest = hashlib.sha256(text)
    arrays: dict[str, np.ndarray] = {}
    names = sorted({name for name in wanted.values() if type(name) is str})
    budget = ReadBudget(sum(_shard(path, name).stat().st_size for name in names))
    for name in names:
        shard = _shard(path, name)
        digest.update(shard.read_bytes())
        held, _, _ = read_safetensors(shard)
        budget.spend(sum(array.nbytes for array in held.values()))
        arrays |= {key: held[key] for key, file in wanted.items() if file == name and key in held}
    if missing := sorted(wanted.keys() - arrays.keys()):
        raise ValueError(f"{len(missing)} arrays are missing, such as {printable(missing[0])}")
    return arrays, digest.hexdigest()


def _shard(index: Path, name: str) -> Path:
    shard = index.parent / name
    if Path(name).name != name or not name.endswith(".safetensors"):
        raise InputError(
            f"{index}: names {printable(name)}, which is not a file beside it; download all files again"
        )
    if not shard.is_file():
        raise InputError(f"{index}: {printable(name)} is missing; put all files into one folder")
    return shard
