"""The state of training (parameters, optimizer state, running average), and its arrays' names on disk."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int

from ldip_jax.errors import InputError, first_few


@flax.struct.dataclass
class TrainState:
    """What changes from step to step. Frozen parameters are separate: never differentiated, never saved.

    Attributes:
        step: updates made so far, skipped ones included; an int32 scalar.
        params: trainable parameters by component: "lrrf", or "as_head" and "as_decoder"; float32.
        opt_state: state of the optimizer.
        ema: running average of `params`, or None.
    """

    # Not annotated as a JAX array, because a state may also hold only shapes.
    step: Any
    params: Mapping[str, Any]
    opt_state: optax.OptState
    ema: Mapping[str, Any] | None


def start_state(
    params: Mapping[str, Any], optimizer: optax.GradientTransformation, *, ema: bool
) -> TrainState:
    """The state before the first step."""
    average = jax.tree.map(jnp.array, params) if ema else None
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), average)


def update_average(ema: Any, params: Any, step: Int[Array, ""], decay: float) -> Any:
    """The running average after a step. Young averages forget faster, so that initial values soon fade."""
    done = step.astype(jnp.float32)
    rate = 1.0 - jnp.minimum(decay, (1.0 + done) / (10.0 + done))
    return jax.tree.map(lambda a, p: a + rate * (p - a), ema, params)


def trained_params(state: TrainState) -> Mapping[str, Any]:
    """The parameters that are validated and exported: the average, if there is one."""
    return state.params if state.ema is None else state.ema


Tree = TypeVar("Tree")


def named_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Copies of a tree's leaves by their path joined by `/`; each leaf must be the same on every device."""
    return {name: np.array(leaf) for name, leaf in _named(tree).items()}


def content_sha256(arrays: Mapping[str, np.ndarray], text: np.ndarray) -> np.ndarray:
    """One digest, 32 bytes, of the names, types, shapes and values of arrays and of a text's bytes."""
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
    """A tree with the template's structure and these arrays.

    Args:
        template: a tree of arrays or `jax.ShapeDtypeStruct`s; arrays get their leaves' shardings, if any.
        arrays: by name, as `named_arrays` returns them.
        path: the file they come from, for messages.

    Raises:
        InputError: they belong to another tree; names what differs.
    """
    leaves = _named(template)
    mismatched = sorted(leaves.keys() ^ arrays.keys()) or [
        name
        for name, leaf in leaves.items()
        if leaf.shape != arrays[name].shape or leaf.dtype != arrays[name].dtype
    ]
    if mismatched:
        raise InputError(
            f"{path}: {first_few(mismatched)} differ from what this version trains; give another --workdir"
        )
    filled = [_put(arrays[name], getattr(leaf, "sharding", None)) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(template), filled)


def _named(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _put(value: np.ndarray, sharding: Any) -> jax.Array:
    if sharding is None:
        return jax.numpy.asarray(value)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])
