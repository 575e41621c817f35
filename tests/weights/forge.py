"""Handmade checkpoint files: valid ones without PyTorch, and ones that no honest program writes."""

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
KINDS = {
    "f8": "Double",
    "f4": "Float",
    "f2": "Half",
    "i8": "Long",
    "i4": "Int",
    "i2": "Short",
    "i1": "Char",
    "u1": "Byte",
    "b1": "Bool",
}


def plain(value: object) -> bytes:
    """Instructions that push plain data."""
    return pickle.dumps(value, protocol=2)[2:-1]


def name(dotted: str) -> bytes:
    """An instruction that pushes a module's attribute."""
    module, _, attribute = dotted.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def call(function: str, *arguments: bytes) -> bytes:
    """Instructions that push what a call returns."""
    return name(function) + b"(" + b"".join(arguments) + b"tR"


def mapping(items: Mapping[object, bytes]) -> bytes:
    """Instructions that push a dict of what others push."""
    return b"}(" + b"".join(plain(key) + value for key, value in items.items()) + b"u"


def stored(kind: str, key: str, count: int, view: bytes = b"") -> bytes:
    """Instructions that push a storage; `view` are those for the last item in the older layout."""
    identity = plain("storage") + name(f"torch.{kind}Storage") + plain(key) + plain("cpu") + plain(count)
    return b"(" + identity + view + b"tQ"


def tensor(storage: bytes, shape: tuple, strides: tuple, offset: int = 0) -> bytes:
    """Instructions that push a tensor."""
    hooks = call("collections.OrderedDict")
    rest = plain(offset) + plain(shape) + plain(strides) + plain(False) + hooks
    return call("torch._utils._rebuild_tensor_v2", storage + rest)


def finished(body: bytes) -> bytes:
    """A whole pickle."""
    return b"\x80\x02" + body + b"."


def zipped(
    path: Path, body: bytes, blocks: Mapping[str, bytes], deflate: bool = False, **more: bytes
) -> Path:
    """A file in PyTorch's present layout; `more` are further members."""
    packing = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("archive/data.pkl", finished(body))
        for key, block in blocks.items():
            archive.writestr(f"archive/data/{key}", block)
        for key, block in more.items():
            archive.writestr(f"archive/{key}", block)
    return path


def streamed(path: Path, body: bytes, blocks: Mapping[str, tuple[int, bytes]]) -> Path:
    """A file in PyTorch's older layout; blocks with the counts written before them."""
    out = io.BytesIO()
    for value in (MAGIC, 1001, {"protocol_version": 1001, "little_endian": True}):
        out.write(pickle.dumps(value, protocol=2))
    out.write(finished(body))
    out.write(pickle.dumps(list(blocks), protocol=2))
    for count, block in blocks.values():
        out.write(struct.pack("<q", count) + block)
    path.write_bytes(out.getvalue())
    return path


def write_pth(
    path: Path, arrays: Mapping[str, np.ndarray], *, wrap: str | None = None, layout: str = "zip"
) -> Path:
    """A state dict as `torch.save` writes it, a storage for each tensor."""
    tensors, blocks, counts = {}, {}, {}
    for key, (label, array) in enumerate(arrays.items()):
        strides = tuple(step // array.itemsize for step in np.zeros_like(array, order="C").strides)
        view = plain(None) if layout == "stream" else b""
        storage = stored(KINDS[array.dtype.str[1:]], str(key), array.size, view)
        tensors[label] = tensor(storage, array.shape, strides)
        blocks[str(key)], counts[str(key)] = array.tobytes(), array.size
    body = mapping(tensors)
    body = mapping({wrap: body}) if wrap else body
    if layout == "zip":
        return zipped(path, body, blocks)
    return streamed(path, body, {key: (counts[key], blocks[key]) for key in blocks})
