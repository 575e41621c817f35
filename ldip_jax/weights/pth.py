"""Reads PyTorch's own files without PyTorch and without running anything in them.

Two layouts hold the same pickle. Since PyTorch 1.6, it is a zip archive whose members are the pickle and one
raw block per storage. Before, it was one stream of a magic number, the pickle and the raw blocks. The pickle
describes tensors as windows (offset, shape, strides) into storages.
"""

import io
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ldip_jax.errors import InputError
from ldip_jax.weights.limits import ReadBudget, open_zip
from ldip_jax.weights.numpy_pickle import NUMPY_NAMES, PickledArray
from ldip_jax.weights.unpickle import Name, plain_dict, unpickle

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MAX_DEPTH = 32
MAX_COUNT = 1 << 60
BFLOAT16 = "bf16"
STORAGES = {
    "Double": "f8",
    "Float": "f4",
    "Half": "f2",
    "BFloat16": BFLOAT16,
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
}


@dataclass(frozen=True)
class Storage:
    """A block of `count` numbers in the file; `start` is where a view into it begins."""

    key: str
    code: str
    count: int
    start: int = 0

    def dtype(self, order: str) -> np.dtype:
        """How the numbers are stored in the file; bfloat16 as the upper half of float32."""
        return np.dtype(order + ("u2" if self.code == BFLOAT16 else self.code))

    def nbytes(self) -> int:
        return self.count * self.dtype("<").itemsize


@dataclass(frozen=True)
class Tensor:
    """A window into a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_pth(path: Path) -> Any:
    """The content of a file written by `torch.save`, or of a pickle of NumPy arrays.

    Call it within `reporting_damage`.

    Returns:
        Nested dict, list and tuple of NumPy arrays (bfloat16 widened to float32), numbers, str, bytes, None.

    Raises:
        InputError: the file names anything but tensors and plain containers.
        Any exception that `reporting_damage` converts: the file is damaged or truncated.
    """
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\3\4"
    return _read_zip(path) if zipped else _read_stream(path)


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """float32 from the bits of bfloat16 as uint16."""
    return np.left_shift(bits, 16, dtype=np.uint32, out=np.empty(bits.shape, np.uint32)).view(np.float32)


def _count(value: Any) -> int:
    """A number from the file that counts something."""
    if type(value) is not int or not 0 <= value < MAX_COUNT:
        raise ValueError("an invalid size")
    return value


def _size(values: Any = ()) -> tuple[int, ...]:
    if type(values) not in (list, tuple):
        raise TypeError("a size that is not a list")
    return tuple(map(_count, values))


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise TypeError("a tensor without a storage or shape")
    if len(shape) != len(strides) or len(shape) > 16:
        raise ValueError("a tensor whose shape and strides differ")
    shape, strides = tuple(map(_count, shape)), tuple(map(_count, strides))
    return Tensor(storage, _count(offset) + storage.start, shape, strides)


def _parameter(data: Any, *_: Any) -> Tensor:
    if type(data) is not Tensor:
        raise TypeError("a parameter without a tensor")
    return data


NAMES = {
    **NUMPY_NAMES,
    "collections.OrderedDict": plain_dict,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    **{f"torch.{kind}Storage": code for kind, code in STORAGES.items()},
}


def _storage(identity: Any) -> Storage:
    """The storage that a persistent id describes: ("storage", type, key, device, count[, view])."""
    tag, kind, key, _, count, *view = identity
    if tag != "storage" or type(kind) is not Name or type(kind.value) is not str or type(key) is not str:
        raise ValueError("a persistent object that is not a storage")
    storage = Storage(key, kind.value, _count(count))
    if view and view[0] is not None:
        _, start, _ = view[0]
        storage = replace(storage, start=_count(start))
    return storage


def _window(tensor: Tensor, block: np.ndarray) -> np.ndarray:
    """A contiguous copy of the tensor's part of its storage's numbers."""
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, block.dtype)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    if last >= block.size:
        raise ValueError("a tensor that extends beyond its storage")
    steps = [s * block.itemsize for s in tensor.strides]
    view = np.lib.stride_tricks.as_strided(block[tensor.offset :], tensor.shape, steps)
    return view.astype(block.dtype.newbyteorder("="), order="C")


class _Arrays:
    """Turns what the pickle described into arrays, within what a file of its size can really hold."""

    def __init__(self, path: Path, order: str, load: Callable[[Storage], bytes]):
        self.path, self.order, self.load = path, order, load
        self.blocks: dict[str, bytes] = {}
        self.budget = ReadBudget(path.stat().st_size)

    def convert(self, value: Any, depth: int = 0) -> Any:
        self.budget.spend(128)
        if depth > MAX_DEPTH:
            raise ValueError("containers nested too deeply")
        match value:
            case Tensor():
                return self.tensor(value)
            case PickledArray(array=np.ndarray() as array):
                self.budget.spend(array.nbytes)
                return array.astype(array.dtype.newbyteorder("="), order="C")
            case dict():
                return {key: self.convert(item, depth + 1) for key, item in value.items()}
            case list() | tuple():
                return type(value)(self.convert(item, depth + 1) for item in value)
            case None | bool() | int() | float() | str() | bytes():
                return value
        raise TypeError(f"a {getattr(value, 'name', type(value).__name__)} among the weights")

    def tensor(self, tensor: Tensor) -> np.ndarray:
        storage = tensor.storage
        if storage.key not in self.blocks:
            self.budget.spend(storage.nbytes())
            self.blocks[storage.key] = self.load(storage)
        numbers = np.frombuffer(self.blocks[storage.key], storage.dtype(self.order))
        self.budget.spend(math.prod(tensor.shape) * numbers.itemsize)
        values = _window(tensor, numbers)
        if storage.code == BFLOAT16:
            return widen_bfloat16(values)
        return values


def _read_zip(path: Path) -> Any:
    with open_zip(path) as archive:
        pickles = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise InputError(f"{path}: a zip archive that PyTorch did not write; give the file inside it")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in archive.namelist():
            raise InputError(f"{path}: a TorchScript program, not weights; save its bare state dict")
        order = "<"
        if f"{folder}byteorder" in archive.namelist():
            order = {b"little": "<", b"big": ">"}.get(archive.read(f"{folder}byteorder"))
            if order is None:
                raise ValueError("an unknown byte order")

        def load(storage: Storage) -> bytes:
            member = archive.getinfo(f"{folder}data/{storage.key}")
            if member.file_size != storage.nbytes():
                raise ValueError(f"storage {storage.key} has {member.file_size} bytes")
            return archive.read(member)

        content = unpickle(io.BytesIO(archive.read(pickles[0])), str(path), NAMES, _storage)
        return _Arrays(path, order, load).convert(content)


def _read_stream(path: Path) -> Any:
    stream = io.BytesIO(path.read_bytes())
    storages: dict[str, Storage] = {}
    blocks: dict[str, bytes] = {}

    def note(identity: Any) -> Storage:
        storage = _storage(identity)
        storages.setdefault(storage.key, replace(storage, start=0))
        return storage

    content = unpickle(stream, str(path), NAMES)
    if type(content) is int and content == MAGIC:
        if unpickle(stream, str(path), NAMES) != PROTOCOL:
            raise ValueError("an unknown version of the format")
        unpickle(stream, str(path), NAMES)
        content = unpickle(stream, str(path), NAMES, note)
        for key in unpickle(stream, str(path), NAMES):
            if type(key) is not str:
                raise TypeError("a storage without a name")
            # In this layout, official writers store numbers little-endian on every machine.
            (count,) = struct.unpack("<q", stream.read(8))
            storage = storages[key]
            blocks[key] = stream.read(storage.nbytes())
            if count != storage.count or len(blocks[key]) != storage.nbytes():
                raise ValueError(f"storage {key} is truncated")
    return _Arrays(path, "<", lambda storage: blocks[storage.key]).convert(content)
