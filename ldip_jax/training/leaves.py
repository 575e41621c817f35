"""A tree of arrays as arrays by name, and back onto devices."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from ldip_jax.errors import InputError

Tree = TypeVar("Tree")


def named_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Copies of a tree's leaves by their path joined by `/`; each leaf the same on every device."""
    return {name: np.array(leaf) for name, leaf in _named(tree).items()}


def content_sha256(arrays: Mapping[str, np.ndarray], text: np.ndarray) -> np.ndarray:
    """One digest, 32 bytes, over names, types, shapes and values of arrays, and a text's bytes."""
    digest = hashlib.sha256(text.tobytes())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def tree_sha256(tree: Any) -> str:
    """One digest, in hex, of a tree's leaves and their names."""
    return content_sha256(named_arrays(tree), np.zeros(0, np.uint8)).tobytes().hex()


def fill(template: Tree, arrays: Mapping[str, np.ndarray], path: Path) -> Tree:
    """The template's tree of these arrays.

    Args:
        template: of arrays or `jax.ShapeDtypeStruct`s; arrays go onto their leaves' shardings, if any.
        arrays: by name, as `named_arrays` gives them.
        path: where they come from, for messages.

    Raises:
        InputError: they are of another tree; names what differs.
    """
    leaves = _named(template)
    other = sorted(leaves.keys() ^ arrays.keys()) or [
        name
        for name, leaf in leaves.items()
        if leaf.shape != arrays[name].shape or leaf.dtype != arrays[name].dtype
    ]
    if other:
        raise InputError(
            f"{path}: {some(other)} differ from what this version trains; give another --workdir"
        )
    filled = [_put(arrays[name], getattr(leaf, "sharding", None)) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(template), filled)


def some(names: Sequence[str]) -> str:
    """The first names of many, for a message of one line."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _named(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _put(value: np.ndarray, sharding: Any) -> jax.Array:
    if sharding is None:
        return jax.numpy.asarray(value)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])
