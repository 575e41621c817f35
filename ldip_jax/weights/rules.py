"""Converts checkpoint names to Flax names by tables of rules, checked both ways.

Every array of the checkpoint must match exactly one rule, every parameter of the network must be filled, and
the shapes must agree. All errors are reported together.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from ldip_jax.errors import InputError

MAX_SHOWN = 12


@dataclass(frozen=True)
class Rule:
    """What happens to the arrays whose whole name matches `pattern`.

    Attributes:
        pattern: regular expression. A group named `layer` is the array's index on a new leading axis.
        target: the new name, in PyTorch's notation (`main.0.kernel`), with the pattern's groups as `\\1`;
            None if the array is not a parameter and is left out.
        axes: the transposition from PyTorch's layout.
        value: what an array that is left out must hold, if that matters; or a function of its shape that
            returns this.
        tolerance: how far it may differ from `value`, beyond the rounding of a file in half precision.
        reason: why it is left out.
    """

    pattern: str
    target: str | None
    axes: tuple[int, ...] | None = None
    value: np.ndarray | Callable[[tuple[int, ...]], np.ndarray] | None = None
    tolerance: float = 1e-5
    reason: str = "a constant of the network"


def conv(pattern: str, target: str) -> tuple[Rule, Rule]:
    """Rules for a convolution's kernel, (out, in, h, w) -> (h, w, in, out), and bias."""
    return Rule(pattern + r"\.weight", target + ".kernel", (2, 3, 1, 0)), _bias(pattern, target)


def dense(pattern: str, target: str) -> tuple[Rule, Rule]:
    """Rules for a linear layer's kernel, (out, in) -> (in, out), and bias."""
    return Rule(pattern + r"\.weight", target + ".kernel", (1, 0)), _bias(pattern, target)


def norm(pattern: str, target: str) -> tuple[Rule, Rule]:
    """Rules for a normalisation's scale and bias."""
    return Rule(pattern + r"\.weight", target + ".scale"), _bias(pattern, target)


def _bias(pattern: str, target: str) -> Rule:
    return Rule(pattern + r"\.bias", target + ".bias")


def flax_path(name: str) -> str:
    """`main.2.conv1.kernel` -> `main_2/conv1/kernel`."""
    return re.sub(r"\.(\d+)", r"_\1", name).replace(".", "/")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dict -> {"a/b/c": leaf}."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}/")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"a/b/c": leaf} -> nested dict.

    Raises:
        ValueError: a name is both a leaf and a branch.
    """
    tree: dict[str, Any] = {}
    for name, leaf in flat.items():
        *branches, last = name.split("/")
        node = tree
        for branch in branches:
            node = node.setdefault(branch, {})
            if not isinstance(node, dict):
                raise ValueError(f"{name} lies below a parameter")
        if last in node:
            raise ValueError(f"{name} is given twice")
        node[last] = leaf
    return tree


def as_params(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Parameters by Flax path joined by `/` -> nested dict.

    Raises:
        ValueError: anything but float32, or a name is both a leaf and a branch.
    """
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise ValueError(f"{name} is {array.dtype}, not float32")
    return nest(arrays)


def convert(
    arrays: Mapping[str, np.ndarray], rules: tuple[Rule, ...], skeleton: Mapping[str, Any], what: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """The parameters that `arrays` hold, with Flax's names and layout.

    Args:
        arrays: a checkpoint, by PyTorch name.
        rules: the network's table.
        skeleton: nested dict whose leaves have the `shape` that each parameter must have.
        what: the file and the network, for the message.

    Returns:
        Nested dict of float32 arrays, and what the rules left out: name -> reason.

    Raises:
        InputError: anything does not fit; lists all errors.
    """
    errors: list[str] = []
    ignored: dict[str, str] = {}
    filled: dict[str, np.ndarray] = {}
    stacks: dict[str, dict[int, np.ndarray]] = {}
    for name, array in arrays.items():
        matches = [(rule, match) for rule in rules if (match := re.fullmatch(rule.pattern, name))]
        if len(matches) != 1:
            errors.append(f"{name}: " + ("matches two rules" if matches else "not part of this network"))
            continue
        rule, match = matches[0]
        if rule.target is None:
            if rule.value is not None and not _same(array, rule):
                errors.append(f"{name}: holds other values than this network computes with")
            ignored[name] = rule.reason
            continue
        target = flax_path(match.expand(rule.target))
        if error := _array_error(array):
            errors.append(f"{name}: {error}")
            array = np.zeros(array.shape)
        array = array.astype(np.float32)
        if rule.axes and array.ndim == len(rule.axes):
            array = array.transpose(rule.axes)
        slot: dict[Any, np.ndarray] = filled
        key: Any = target
        if "layer" in match.groupdict():
            slot, key = stacks.setdefault(target, {}), int(match["layer"])
        if key in slot:
            errors.append(f"{name}: fills {target} a second time")
        slot[key] = array

    shapes = {name: tuple(leaf.shape) for name, leaf in flatten(skeleton).items()}
    for target, layers in stacks.items():
        if stacked := _stack_layers(target, layers, shapes.get(target, ()), errors):
            filled[target] = stacked[0]
    errors += _mismatches(
        {name: array.shape for name, array in filled.items()},
        {name: shape for name, shape in shapes.items() if name not in stacks or name in filled},
    )
    _raise_all(errors, what)
    return nest({name: np.ascontiguousarray(filled[name]) for name in shapes}), ignored


def renamed(names: Iterable[str], rules: tuple[Rule, ...]) -> list[str]:
    """A line on the modules that have another name here, with an example of each kind; [] if none has."""
    kinds: dict[str, tuple[str, str]] = {}
    modules: set[str] = set()
    for name in names:
        for rule in rules:
            match = re.fullmatch(rule.pattern, name)
            if match is None or rule.target is None:
                continue
            theirs, ours = (x.rpartition(".")[0] for x in (name, match.expand(rule.target)))
            if "layer" in match.groupdict():
                theirs = theirs[: match.start("layer")] + theirs[match.end("layer") + 1 :]
            if theirs.replace(".", "_") != ours.replace(".", "_"):
                kinds.setdefault(re.sub(r"\d", "", theirs), (theirs, ours))
                modules.add(theirs)
    examples = ", ".join(f"{theirs or 'the outermost'} to {ours}" for theirs, ours in kinds.values())
    count = f"{len(modules)} module{'s' * (len(modules) != 1)}"
    return [f"renamed {count}, such as {examples}"] if modules else []


def check_params(params: Mapping[str, Any], skeleton: Mapping[str, Any], what: str) -> None:
    """Check that `params` has exactly the names and shapes of `skeleton`, and finite values.

    Args:
        params: nested dict of arrays.
        skeleton: nested dict whose leaves have a `shape`.
        what: the file and what it should hold, for the message.

    Raises:
        InputError: anything does not fit; lists all errors.
    """
    flat = flatten(params)
    errors = _mismatches(
        {name: tuple(leaf.shape) for name, leaf in flat.items()},
        {name: tuple(leaf.shape) for name, leaf in flatten(skeleton).items()},
    )
    errors += [f"{name}: holds NaN or infinity" for name, leaf in flat.items() if not np.isfinite(leaf).all()]
    _raise_all(errors, what)


def _same(array: np.ndarray, rule: Rule) -> bool:
    value = rule.value(array.shape) if callable(rule.value) else rule.value
    if value is None or array.dtype.kind != value.dtype.kind or array.shape != value.shape:
        return False
    rounded = [value]
    if value.dtype.kind == "f":
        # Files in half precision, and files that were widened again since.
        rounded += [value.astype(np.float32).astype(half) for half in (np.float16, jnp.bfloat16)]
    return any(np.allclose(array, held.astype(np.float64), rtol=0, atol=rule.tolerance) for held in rounded)


def _array_error(array: np.ndarray) -> str | None:
    if array.dtype.kind != "f":
        return f"{array.dtype}, not floating point"
    if not np.isfinite(array).all() or np.abs(array).max(initial=0) > np.finfo(np.float32).max:
        return "holds NaN or infinity"
    return None


def _stack_layers(
    target: str, layers: dict[int, np.ndarray], shape: tuple[int, ...], errors: list[str]
) -> tuple[np.ndarray] | None:
    """All layers of a parameter on a leading axis; or None, with what is wrong added to `errors`."""
    wanted = range(shape[0]) if shape else range(len(layers))
    missing = [index for index in wanted if index not in layers]
    wrong = [index for index in layers if index in wanted and shape and layers[index].shape != shape[1:]]
    surplus = [index for index in layers if index not in wanted]
    errors += [f"{target}, layer {index}: missing" for index in missing]
    errors += [f"{target}, layer {index}: one too many" for index in surplus]
    errors += [f"{target}, layer {i}: shape {layers[i].shape}, {shape[1:]} expected" for i in wrong]
    if missing or wrong or surplus:
        return None
    return (np.stack([layers[index] for index in wanted]),)


def _mismatches(found: Mapping[str, tuple], expected: Mapping[str, tuple]) -> list[str]:
    errors = [f"{name}: missing" for name in expected if name not in found]
    errors += [f"{name}: not part of this network" for name in found if name not in expected]
    errors += [
        f"{name}: shape {found[name]}, {shape} expected"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    return errors


def _raise_all(errors: list[str], what: str) -> None:
    if not errors:
        return
    more = [f"and {len(errors) - MAX_SHOWN} more"] if len(errors) > MAX_SHOWN else []
    count = f"{len(errors)} errors: " if len(errors) > 1 else ""
    raise InputError(f"{what}: {count}{'; '.join([*errors[:MAX_SHOWN], *more])}")
