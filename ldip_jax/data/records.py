"""Records: training clips with the stored output of the frozen networks, one file each.

The output of the backbone, the flow network and the matcher for a clip never changes while LRRF is trained. A
record holds it for whole frames; crops, degraded references and distractors are drawn from it many times
(`data/crops.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors.numpy
from jaxtyping import Float, Int, UInt8

from ldip_jax.atomic import atomic_open
from ldip_jax.errors import InputError

FORMAT = "ldip-record-1"
# Names in files of fields that have another name here.
_STORED_NAMES = {"key_frames": "keys", "route_confidence": "route_sure", "lr_references": "low_references"}


def _stored_name(field: str) -> str:
    return _STORED_NAMES.get(field, field)


class Record(NamedTuple):
    """A clip C_gt of t frames with its key-frames and their matched references, whole frames.

    Attributes:
        lr, hr: the LR frames and the ground truth.
        features: the backbone's LR features; bfloat16 in a file and when read from one.
        to_next, to_previous: LR flow of every frame to its neighbours, zero at the ends, (x, y) in LR pixels.
        key_frames: key-frames, as places in the clip.
        references: frames that are used as references, at HR.
        candidates: for each key-frame, places in `references`; -1: an empty slot.
        warps: for each HR pixel of a key-frame, its place (x, y) in pixels of each candidate.
        confidence: confidence of the warps, in [0, 1].
        route_warps: for each HR pixel of a frame, its place (x, y) in HR pixels of each key-frame; None if
            detail is not carried.
        route_confidence: confidence of the routes, in [0, 1].
        lr_references: the LR frames of `references`, if the clip was damaged or references were jittered;
            else None. References at LR size are taken from them: they are damaged but not jittered.
    """

    lr: UInt8[np.ndarray, "t h w 3"]
    hr: UInt8[np.ndarray, "t H W 3"]
    features: Float[np.ndarray, "t h w c"]
    to_next: Float[np.ndarray, "t h w 2"]
    to_previous: Float[np.ndarray, "t h w 2"]
    key_frames: Int[np.ndarray, "k"]
    references: UInt8[np.ndarray, "r H W 3"]
    candidates: Int[np.ndarray, "k n"]
    warps: Float[np.ndarray, "k n H W 2"]
    confidence: Float[np.ndarray, "k n H W 1"]
    route_warps: Float[np.ndarray, "t k H W 2"] | None = None
    route_confidence: Float[np.ndarray, "t k H W 1"] | None = None
    lr_references: UInt8[np.ndarray, "r h w 3"] | None = None


def save_record(path: str | Path, record: Record, provenance: dict[str, str]) -> None:
    """Write a record, completely or not at all.

    Args:
        path: the file, replaced if it exists.
        record: what to write; features are stored as bfloat16, confidence as float16, and routes as float16
            displacements.
        provenance: what it was made from: the clip, the backbone's SHA-256, the matcher.

    Raises:
        InputError: the file cannot be written.
    """
    stored = record._replace(
        features=record.features.astype(ml_dtypes.bfloat16),
        confidence=record.confidence.astype(np.float16),
    )
    if record.route_warps is not None and record.route_confidence is not None:
        moves = record.route_warps - _pixels(*record.route_warps.shape[2:4])
        stored = stored._replace(
            route_warps=moves.astype(np.float16),
            route_confidence=record.route_confidence.astype(np.float16),
        )
    arrays = {
        _stored_name(field): np.ascontiguousarray(x) for field, x in stored._asdict().items() if x is not None
    }
    data = safetensors.numpy.save(arrays, {**provenance, "format": FORMAT})
    with atomic_open(path) as file:
        file.write(data)


@contextmanager
def _open_file(path: str | Path) -> Iterator[Any]:
    """An open record.

    Raises:
        InputError: there is no such file, or it is damaged or not a record.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("format") != FORMAT:
                raise InputError(f"{path}: not a record of this version; prepare the records again")
            yield file
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: not a whole record ({error}); prepare it again") from error


def load_record(path: str | Path) -> Record:
    """Read a record; features stay bfloat16.

    Raises:
        InputError: there is no such file, or it is damaged or not a record.
    """
    with _open_file(path) as file:
        there = set(file.keys())
        fields = [
            field
            for field in Record._fields
            if _stored_name(field) in there or field not in Record._field_defaults
        ]
        record = Record(**{field: file.get_tensor(_stored_name(field)) for field in fields})
    if record.route_warps is None:
        return record
    moves = record.route_warps.astype(np.float32)
    return record._replace(route_warps=moves + _pixels(*moves.shape[2:4]))


class _LazyArray:
    """An array in an open file; only what an index asks for is read."""

    def __init__(self, stored: Any):
        self._stored = stored
        self.shape = tuple(stored.get_shape())

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        return self._stored[index]


class _LazyWarps(_LazyArray):
    """Displacements in a file, as places. Rows and columns are the last two parts of an index."""

    def __getitem__(self, index: Any) -> np.ndarray:
        moves = super().__getitem__(index).astype(np.float32)
        rows, columns = index[-2:]
        return moves + _pixels(*self.shape[-3:-1])[rows, columns]


@contextmanager
def open_record(path: str | Path) -> Iterator[Record]:
    """A record whose large arrays are read when they are indexed, within the block.

    Crops are a twentieth of their records. An index has a whole number or a slice for each axis but the last.

    Raises:
        InputError: there is no such file, or it is damaged or not a record.
    """
    with _open_file(path) as file:
        there = set(file.keys())
        parts: dict[str, Any] = {}
        for field in Record._fields:
            name = _stored_name(field)
            if field in ("key_frames", "candidates"):
                parts[field] = file.get_tensor(name)
            elif name in there or field not in Record._field_defaults:
                kind = _LazyWarps if field == "route_warps" else _LazyArray
                parts[field] = kind(file.get_slice(name))
        yield Record(**parts)


def _pixels(height: int, width: int) -> Float[np.ndarray, "h w 2"]:
    """The place (x, y) of every pixel."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)


def record_provenance(path: str | Path) -> dict[str, str]:
    """What a record says that it was made from; reads only the head of the file.

    Raises:
        InputError: there is no such file, or it is damaged or not a record.
    """
    with _open_file(path) as file:
        return {name: text for name, text in file.metadata().items() if name != "format"}


def record_scale(path: str | Path) -> float:
    """HR height divided by LR height of a record; reads only the head of the file.

    Raises:
        InputError: there is no such file, or it is damaged or not a record.
    """
    with _open_file(path) as file:
        height, low = (file.get_slice(name).get_shape()[1] for name in ("hr", "lr"))
    return height / low


def record_files(folder: str | Path) -> list[Path]:
    """The records in a folder, in name order.

    Raises:
        InputError: there is no such folder, or it holds none.
    """
    files = sorted(Path(folder).glob("*.safetensors")) if Path(folder).is_dir() else []
    if not files:
        raise InputError(f"{folder}: no records in it; make them with ldip records")
    return files
