"""Settings: dataclass fields with their meaning, their bounds, and whether a resumed run may change them.

A group of settings is a mutable dataclass. Its fields are made with `setting`, or they are groups themselves.
What is written there is what is checked, and what the documentation shows.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, get_args, get_type_hints

from ldip_jax.errors import InputError

Group = TypeVar("Group")


@dataclass(frozen=True)
class FieldRule:
    """What is known about a setting besides its name, type and default.

    Attributes:
        doc: what it means, as the documentation shows it.
        minimum, maximum: bounds, for each number of a tuple.
        below: an upper bound that the value does not reach.
        ordered: whether a pair of numbers is a range, the lower number first.
        choices: the texts it may have.
        resume: whether a resumed run may change it.
        formerly: its earlier name in its group, which stored configs, flags and config files may still use.
    """

    doc: str
    minimum: int | float | None = None
    maximum: int | float | None = None
    below: int | float | None = None
    ordered: bool = False
    choices: tuple[str, ...] = ()
    resume: bool = False
    formerly: str = ""


class Setting(NamedTuple):
    """A setting of a config: its name with dots, its type, its value, and what is known about it."""

    name: str
    kind: Any
    value: Any
    rule: FieldRule


def setting(default: Any, doc: str, **rule: Any) -> Any:
    """A field of a group, with the attributes of a `FieldRule`."""
    return dataclasses.field(default=default, metadata={"rule": FieldRule(doc, **rule)})


def settings(config: Any, prefix: str = "") -> Iterator[Setting]:
    """All settings of a config in the order of their definition, those of its groups included."""
    kinds = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        if "rule" in field.metadata:
            yield Setting(name, kinds[field.name], value, field.metadata["rule"])
        elif isinstance(value, kinds[field.name]):
            yield from settings(value, f"{name}.")
        else:
            raise InputError(f"config.{name}: is a group of fields; set them one by one")


def former_names(config: Any) -> dict[str, str]:
    """Names with dots of settings by their earlier names, likewise with dots."""
    return {
        f"{name.rpartition('.')[0]}.{rule.formerly}".lstrip("."): name
        for name, _, _, rule in settings(config)
        if rule.formerly
    }


def check_settings(config: Any, prefix: str = "") -> None:
    """Check the type and the bounds of every setting.

    Args:
        prefix: of the names in messages, after "config.".

    Raises:
        InputError: a value cannot be used; names the field, what is wrong with it and what it may be.
    """
    for name, kind, value, rule in settings(config, prefix):
        if wanted := _requirement(kind, value, rule):
            raise InputError(f"config.{name}={value}: {wanted}")


def _requirement(kind: Any, value: Any, rule: FieldRule) -> str | None:
    """What a value ought to be; None if it is."""
    if rule.choices and (type(value) is not str or value not in rule.choices):
        return f"choose from {', '.join(rule.choices)}"
    if not _has_type(kind, value):
        return f"must be {_name_of(kind)}"
    numbers: Any = value if isinstance(value, tuple) else (value,)
    # Comparisons with NaN are False.
    least = rule.minimum is None or all(number >= rule.minimum for number in numbers)
    most = rule.maximum is None or all(number <= rule.maximum for number in numbers)
    ordered = not rule.ordered or value[0] <= value[1]
    if not (least and most and ordered):
        return _bounds(rule)
    if rule.below is not None and not numbers[0] < rule.below:
        return f"less than {rule.below:g} is needed"
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        return "a finite number is needed"
    return None


def _bounds(rule: FieldRule) -> str:
    if rule.ordered:
        return f"choose two from {rule.minimum:g} to {rule.maximum:g}, the lower one first"
    if rule.maximum is not None:
        return f"choose from {rule.minimum:g} to {rule.maximum:g}"
    return f"{rule.minimum:g} or more is needed"


def _has_type(kind: Any, value: Any) -> bool:
    if parts := get_args(kind):
        if not isinstance(value, tuple):
            return False
        parts = parts[:1] * len(value) if parts[-1] is ... else parts
        return len(parts) == len(value) and all(map(_has_type, parts, value))
    # A whole number will do for any number; True and False are not numbers here.
    return type(value) in ((float, int) if kind is float else (kind,))


_NAMES = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}


def _name_of(kind: Any) -> str:
    parts = get_args(kind)
    if not parts:
        return _NAMES[kind]
    what = {int: "whole numbers", float: "numbers", str: "texts"}[parts[0]]
    return f"a tuple of {what}" if parts[-1] is ... else f"{'two' if len(parts) == 2 else len(parts)} {what}"


def read_settings(kind: type[Group], values: Mapping[str, Any], prefix: str = "") -> Group:
    """A config with these values, and with defaults for the others.

    Args:
        values: by name, maybe an earlier one; those of a group are a mapping too. Lists, as in JSON, become
            tuples.

    Raises:
        InputError: there is no such setting.
    """
    result = kind()
    fields = dataclasses.fields(result)  # type: ignore[arg-type]
    names = {field.name: field.name for field in fields}
    names |= {
        rule.formerly: field.name
        for field in fields
        if (rule := field.metadata.get("rule")) and rule.formerly
    }
    for name, value in values.items():
        if name not in names:
            raise InputError(f"config.{prefix}{name}: no such field; docs/training.md lists all fields")
        name = names[name]
        if isinstance(value, Mapping):
            value = read_settings(type(getattr(result, name)), value, f"{prefix}{name}.")
        setattr(result, name, tuple(value) if isinstance(value, list) else value)
    return result


def settings_table(config: Any) -> str:
    """All settings as a table in Markdown; * marks those that a resumed run may change."""
    lines = ["| field | default | values | meaning |", "|---|---|---|---|"]
    for name, kind, value, rule in settings(config):
        mark = " *" if rule.resume else ""
        lines.append(f"| `{name}`{mark} | `{_literal(value)}` | {_values(kind, rule)} | {rule.doc} |")
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _values(kind: Any, rule: FieldRule) -> str:
    if rule.choices:
        return ", ".join(f"`{choice}`" for choice in rule.choices)
    name = _name_of(kind)
    if rule.maximum is not None:
        return f"{name}, {rule.minimum:g} to {rule.maximum:g}" + ", the lower one first" * rule.ordered
    if rule.below is not None:
        return f"{name} from {rule.minimum:g} to less than {rule.below:g}"
    return name if rule.minimum is None else f"{name}, {rule.minimum:g} or more"
