"""Pickles of plain data, interpreted without ever importing or calling what they name.

A pickle is a program for a small stack machine, and Python's own machine lets that program call anything.
This one knows only the instructions that build plain data. It replaces a name such as
`collections.OrderedDict` by the entry of the caller's table. A name outside the table, or any other
instruction, ends the reading. Memory stays within what a pickle of its length can need.
"""

import io
import pickletools
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any

from ldip_jax.errors import InputError
from ldip_jax.untrusted import printable
from ldip_jax.weights.limits import ReadBudget, reporting_damage

_MARK = object()
_CONSTANTS = frozenset(
    (
        *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
        *("BINSTRING", "SHORT_BINSTRING", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    )
)


class Name:
    """A name in a pickle, and what stands for it; the pickle can call it if that is a function."""

    __slots__ = ("name", "value")

    def __init__(self, name: str, value: object):
        self.name, self.value = name, value


class Stateful:
    """An object that a pickle may fill with state after making it."""

    __slots__ = ()

    def set_state(self, state: Any) -> None:
        raise NotImplementedError


def plain_dict(pairs: Any = ()) -> dict:
    """A dict whose keys are plain, because hashing an endlessly nested tuple would crash the process."""
    result = {}
    for key, value in pairs:
        if not isinstance(key, (str, bytes, int, float, bool, type(None))):
            raise TypeError(f"a {type(key).__name__} as a key")
        result[key] = value
    return result


def unpickle(
    stream: io.BytesIO,
    what: str,
    names: Mapping[str, object],
    persistent: Callable[[Any], object] | None = None,
) -> Any:
    """The data that the next pickle of `stream` describes; `stream` is left right after it.

    Args:
        stream: at the start of a pickle.
        what: the file's name, for error messages.
        names: for each name that the pickle may use ("module.name"), a function of ours that makes inert data
            from the given arguments, or the data itself.
        persistent: what to put in place of a persistent id.

    Returns:
        None, bool, int, float, str, bytes, dict, list, tuple, whatever `names` and `persistent` returned, and
        `Name` if the pickle holds a name itself.

    Raises:
        InputError: the pickle names anything outside `names`, uses an instruction that plain data does not
            need, or is damaged.
    """
    with reporting_damage(what):
        return _Machine(what, names, persistent, ReadBudget(stream.getbuffer().nbytes)).run(stream)


class _Machine:
    """The stack machine, with what plain data needs in protocols 2 to 4."""

    def __init__(
        self,
        what: str,
        names: Mapping[str, object],
        persistent: Callable[[Any], object] | None,
        budget: ReadBudget,
    ):
        self.what, self.names, self.persistent, self.budget = what, names, persistent, budget
        self.stack: list[Any] = []
        self.memo: dict[object, Any] = {}

    def run(self, stream: io.BytesIO) -> Any:
        for opcode, argument, _ in pickletools.genops(stream):
            # An instruction of one byte can create an object of this size.
            self.budget.spend(64)
            if opcode.name == "STOP":
                (value,) = self.stack
                return value
            self.step(opcode.name, argument)
        raise ValueError("no end")

    def step(self, opcode: str, argument: Any) -> None:
        """Execute one instruction."""
        push = self.stack.append
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                push(_MARK)
            case constant if constant in _CONSTANTS:
                push(argument)
            case "NONE":
                push(None)
            case "NEWTRUE" | "NEWFALSE":
                push(opcode == "NEWTRUE")
            case "EMPTY_DICT":
                push({})
            case "EMPTY_LIST":
                push([])
            case "EMPTY_TUPLE":
                push(())
            case "TUPLE":
                push(tuple(self.pop_marked()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(self.pop_items(int(opcode[-1]))))
            case "APPEND":
                self.extend(self.pop_items(1))
            case "APPENDS":
                self.extend(self.pop_marked())
            case "SETITEM":
                self.update(self.pop_items(2))
            case "SETITEMS":
                self.update(self.pop_marked())
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                push(self.memo[argument])
            case "GLOBAL":
                push(self.resolve(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                push(self.resolve(*self.pop_items(2)))
            case "REDUCE":
                push(self.call(*self.pop_items(2)))
            case "BUILD":
                (state,) = self.pop_items(1)
                self.apply_state(self.stack[-1], state)
            case "BINPERSID" if self.persistent is not None:
                push(self.persistent(*self.pop_items(1)))
            case _:
                raise InputError(
                    f"{self.what}: uses the pickle instruction {opcode}, but only plain data is read (nothing"
                    " was run); save the bare state dict and use that file"
                )

    def pop_items(self, count: int) -> list[Any]:
        """Remove the last `count` items."""
        start = len(self.stack) - count
        if start < 0:
            raise IndexError("empty stack")
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def pop_marked(self) -> list[Any]:
        """Remove the items above the last mark, and the mark."""
        for depth, item in enumerate(reversed(self.stack)):
            if item is _MARK:
                return self.pop_items(depth + 1)[1:]
        raise IndexError("no mark")

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise TypeError("items for something that is not a list")
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict or len(items) % 2:
            raise TypeError("items for something that is not a dict")
        self.stack[-1].update(plain_dict(zip(items[::2], items[1::2], strict=True)))

    def resolve(self, module: Any, attribute: Any) -> Name:
        """What stands for a name."""
        if type(module) is not str or type(attribute) is not str:
            raise TypeError("a name that is not a string")
        name = f"{module}.{attribute}"
        if name not in self.names:
            raise InputError(
                f"{self.what}: names {printable(name)}, but only tensors and plain containers are read"
                " (nothing was run); save the bare state dict and use that file"
            )
        return Name(name, self.names[name])

    def call(self, function: Any, arguments: Any) -> Any:
        """The result of a function of ours."""
        if type(function) is not Name or not callable(function.value) or type(arguments) is not tuple:
            raise TypeError("a call of something that is not a function")
        self.spend(arguments)
        return function.value(*arguments)

    def apply_state(self, target: Any, state: Any) -> None:
        """Set the state of an object of ours."""
        # An OrderedDict's own attributes, such as a state dict's _metadata, do not hold weights.
        if type(target) is dict:
            return
        if not isinstance(target, Stateful):
            raise TypeError("state for something that has none")
        self.spend(state if type(state) is tuple else [state])
        target.set_state(state)

    def spend(self, values: Iterable[Any]) -> None:
        """Count the copies that a function of ours may make: of a text, or of items with their objects."""
        for value in values:
            if isinstance(value, Sized):
                self.budget.spend(len(value) * (1 if isinstance(value, (str, bytes)) else 128))
