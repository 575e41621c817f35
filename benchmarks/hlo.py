"""What a compiled program launches, read from the text of its optimised HLO."""

import math
import re
from typing import NamedTuple

SHAPE = re.compile(r"(pred|[a-z]+[0-9]+[a-z0-9]*)\[([0-9,]*)\]")
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id"),
    *("replica-id", "opt-barrier"),
}
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute")


class Counts(NamedTuple):
    """What is launched; loops count as often as they run.

    Attributes:
        launches: of kernels and of library calls.
        transposes: launches that transpose.
        collectives: exchanges between devices.
        bytes: what kernels read and write at most: a kernel that reads a part counts the whole.
    """

    launches: int
    transposes: int
    collectives: int
    bytes: float


def counted(text: str) -> Counts:
    """What the module's entry computation launches."""
    parts, entry = _computations(text)
    launches, turned, shared, moved = _count(parts, entry, {})
    return Counts(int(launches), int(turned), int(shared), moved)


def _size(text: str) -> float:
    """Bytes of all arrays of a type."""
    total = 0.0
    for kind, sizes in SHAPE.findall(text):
        bits = int((re.findall(r"[0-9]+", kind) or ["8"])[0])
        total += bits / 8 * math.prod(int(n) for n in sizes.split(",") if n)
    return total


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation, and the name of the one that is run."""
    found: dict[str, list[str]] = {}
    name = entry = ""
    for line in text.splitlines():
        if line.endswith("{") and "(" in line and "=" not in line.split("(")[0]:
            name = line.removeprefix("ENTRY ").split()[0].lstrip("%").split("(")[0]
            found[name] = []
            entry = name if line.startswith("ENTRY") else entry
        elif name:
            found[name].append(line)
    return found, entry


Total = tuple[float, float, float, float]


def _count(parts: dict[str, list[str]], name: str, seen: dict[str, Total]) -> Total:
    if name in seen:
        return seen[name]
    total: Total = (0.0, 0.0, 0.0, 0.0)
    sizes: dict[str, float] = {}
    for line in parts[name]:
        if not (matched := INSTRUCTION.match(line)):
            continue
        result, kind, operation, rest = matched.groups()
        sizes[result] = _size(kind)
        called = dict(re.findall(r"(body|to_apply|calls|branch_computations)=[{]?%?([\w.\-]+)", rest))
        more: Total = (0.0, 0.0, 0.0, 0.0)
        if operation == "while":
            trips = re.search(r"known_trip_count[^0-9]*([0-9]+)", rest)
            a, b, c, d = _count(parts, called["body"], seen)
            times = int(trips.group(1)) if trips else 1
            more = (a * times, b * times, c * times, d * times)
        elif operation == "call" or (operation == "conditional" and called):
            more = _count(parts, next(iter(called.values())), seen)
        elif operation not in FREE and not operation.endswith("-done"):
            operands = re.findall(r"%([\w.\-]+)", rest.split("), ")[0])
            moved = sizes[result] + sum(sizes.get(operand, 0.0) for operand in operands)
            inside = parts.get(called.get("calls", ""), [])
            turned = operation == "transpose" or any(" transpose(" in other for other in inside)
            more = (1.0, float(turned), float(operation.startswith(COLLECTIVES)), moved)
        total = (total[0] + more[0], total[1] + more[1], total[2] + more[2], total[3] + more[3])
    seen[name] = total
    return total
