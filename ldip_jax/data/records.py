"""Records: training clips with the frozen networks' work done, kept as one file each.

What the backbone, the flow network and the matcher make of a clip never changes while LRRF is trained. A
record holds it for whole frames; crops, degraded references and distractors are drawn from it again and
again (`data/crops.py`).
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


class Record(NamedTuple):
    """A clip C_gt of t frames with its key-frames and their matched references, whole frames.

    Attributes:
        lr, hr: frames, degraded and true.
        features: the backbone's LR features, bfloat16.
        to_next, to_previous: LR flow of every frame to its neighbours, zero at the ends, (x, y) in LR pixels.
        keys: key-frames, places in the clip.
        references: frames that serve as references, at HR.
        candidates: for each key-frame places in `references`; -1: an empty slot.
        warps: for each key-frame and candidate places (x, y) in pixels of the reference.
        confidence: of the warps, in [0, 1].
    """

    lr: UInt8[np.ndarray, "t h w 3"]
    hr: UInt8[np.ndarray, "t H W 3"]
    features: Float[np.ndarray, "t h w c"]
    to_next: Float[np.ndarray, "t h w 2"]
    to_previous: Float[np.ndarray, "t h w 2"]
    keys: Int[np.ndarray, "k"]
    references: UInt8[np.ndarray, "r H W 3"]
    candidates: Int[np.ndarray, "k n"]
    warps: Float[np.ndarray, "k n H W 2"]
    confidence: Float[np.ndarray, "k n H W 1"]


def save_record(path: str | Path, record: Record, provenance: dict[str, str]) -> None:
    """Write a record, whole or not at all.

    Args:
        path: the file, replaced if it exists.
        record: what to write; features are stored as bfloat16, confidence as float16.
        provenance: what it was made with: the clip, the backbone's sha256, the matcher.

    Raises:
        InputError: the file cannot be written.
    """
    stored = record._replace(
        features=record.features.astype(ml_dtypes.bfloat16),
        confidence=record.confidence.astype(np.float16),
    )
    arrays = {name: np.ascontiguousarray(array) for name, array in stored._asdict().items()}
    data = safetensors.numpy.save(arrays, {**provenance, "format": FORMAT})
    with atomic_open(path) as file:
        file.write(data)


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """An open record.

    Raises:
        InputError: no such file, damaged, or no record.
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
        InputError: no such file, damaged, or no record.
    """
    with _opened(path) as file:
        return Record(*(file.get_tensor(name) for name in Record._fields))


def record_provenance(path: str | Path) -> dict[str, str]:
    """What a record says it was made with; reads the head of the file alone.

    Raises:
        InputError: no such file, damaged, or no record.
    """
    with _opened(path) as file:
        return {name: text for name, text in file.metadata().items() if name != "format"}


def record_scale(path: str | Path) -> float:
    """HR height by LR height of a record; reads the head of the file alone.

    Raises:
        InputError: no such file, damaged, or no record.
    """
    with _opened(path) as file:
        height, low = (file.get_slice(name).get_shape()[1] for name in ("hr", "lr"))
    return height / low


def record_files(folder: str | Path) -> list[Path]:
    """The records in a folder, in name order.

    Raises:
        InputError: there is no such folder, or it holds none.
    """
    files = sorted(Path(folder).glob("*.safetensors")) if Path(folder).is_dir() else []
    if not files:
        raise InputError(
            f"{folder}: no records in it; make them with python -m ldip_jax.data.prepare records"
        )
    return files
