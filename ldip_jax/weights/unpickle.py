"""Pickles of plain data, interpreted without ever importing or calling what they name.

A pickle is a program for a small stack machine, and Python's own machine lets that program call anything.
This one knows the instructions that build plain data, and turns a name such as `collections.OrderedDict` into
what the caller's table gives for it; a name outside of the table, or any other instruction, ends the reading.
Memory stays proportional to the length of the pickle.
"""

import io
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import Any

from ldip_jax.errors import InputError

_MARK = object()
_INTEGERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4")
_FLOATS = ("FLOAT", "BINFLOAT")
_TEXTS = (
    "STRING",
    "BINSTRING",
    "SHORT_BINSTRING",
    "UNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE",
    "BINUNICODE8",
)
_BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
_CONSTANTS = frozenset(_INTEGERS + _FLOATS + _TEXTS + _BYTES)
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def damage_named(what: object) -> Iterator[None]:
    """Any way in which reading malformed bytes can fail, as an `InputError` about the file `what`."""
    try:
        yield
    except InputError:
        raise
    except _DAMAGE as error:
        reason = f"{error}".partition("\n")[0][:120] or type(error).__name__
        raise InputError(f"{what}: damaged ({reason}); get the file again") from None


class Name:
    """A name in a pickle, with what stands for it; callable from the pickle if that is a function."""

    __slots__ = ("name", "value")

    def __init__(self, name: str, value: object):
        self.name, self.value = name, value


class Stateful:
    """An object that a pickle may fill with state after making it."""

    __slots__ = ()

    def set_state(self, state: Any) -> None:
        raise NotImplementedError


def plain_dict(pairs: Iterable[Any] = ()) -> dict:
    """A dict whose keys are plain, for hashing a tuple nested without end would end the process."""
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
    """The data that the next pickle of `stream` describes; `stream` is left right behind it.

    Args:
        stream: at the start of a pickle.
        what: the file's name, for error messages.
        names: for each name that the pickle may use, "module.name", a function of ours that makes inert data
            from the arguments given, or data itself.
        persistent: what to put in place of a persistent id.

    Returns:
        None, bool, int, float, str, bytes, dict, list, tuple, whatever `names` and `persistent` gave, and
        `Name` where the pickle holds a name itself.

    Raises:
        InputError: the pickle names anything outside of `names`, uses an instruction that plain data does not
            need, or is damaged.
    """
    with damage_named(what):
        return _interpret(stream, what, names, persistent)


def _interpret(
    stream: io.BytesIO, what: str, names: Mapping[str, object], persistent: Callable[[Any], object] | None
) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    room = 8 * stream.getbuffer().nbytes + (64 << 20)

    def take(count: int) -> list[Any]:
        if len(stack) < count:
            raise IndexError("empty stack")
        taken = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        return taken

    def take_marked() -> list[Any]:
        for depth, item in enumerate(reversed(stack)):
            if item is _MARK:
                return take(depth + 1)[1:]
        raise IndexError("no mark")

    def resolve(name: str) -> Name:
        if name not in names:
            shown = name[:120] if name.isprintable() else ascii(name)[:120]
            raise InputError(
                f"{what}: names {shown}, but only tensors and plain containers are read (nothing was run);"
                " save the bare state dict and use that file"
            )
        return Name(name, names[name])

    def update(target: Any, items: list[Any]) -> None:
        if type(target) is not dict or len(items) % 2:
            raise TypeError("items for something that is no dict")
        target.update(plain_dict(zip(items[::2], items[1::2], strict=True)))

    def extend(target: Any, items: list[Any]) -> None:
        if type(target) is not list:
            raise TypeError("items for something that is no list")
        target.extend(items)

    for opcode, argument, _ in pickletools.genops(stream):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                (value,) = stack
                return value
            case "MARK":
                stack.append(_MARK)
            case constant if constant in _CONSTANTS:
                stack.append(argument)
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(take_marked()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(take(int(opcode.name[-1]))))
            case "LIST":
                stack.append(take_marked())
            case "DICT":
                items = take_marked()
                stack.append({})
                update(stack[-1], items)
            case "APPEND":
                (item,) = take(1)
                extend(stack[-1], [item])
            case "APPENDS":
                items = take_marked()
                extend(stack[-1], items)
            case "SETITEM":
                items = take(2)
                update(stack[-1], items)
            case "SETITEMS":
                items = take_marked()
                update(stack[-1], items)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[int(argument)] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[int(argument)])
            case "GLOBAL":
                stack.append(resolve(str(argument).replace(" ", ".")))
            case "STACK_GLOBAL":
                module, name = take(2)
                stack.append(resolve(f"{module}.{name}"))
            case "INST":
                resolve(str(argument).replace(" ", "."))
                raise ValueError("an instance of a class")
            case "REDUCE":
                function, arguments = take(2)
                if type(function) is not Name or not callable(function.value) or type(arguments) is not tuple:
                    raise TypeError("a call of something that is no function")
                room -= sum(len(item) for item in arguments if isinstance(item, Sized))
                if room < 0:
                    raise MemoryError("the same data over and over")
                stack.append(function.value(*arguments))
            case "BUILD":
                (state,) = take(1)
                target = stack[-1]
                # An OrderedDict's own attributes, such as a state dict's _metadata, hold no weights.
                if type(target) is not dict:
                    if not isinstance(target, Stateful):
                        raise TypeError("state for something that has none")
                    target.set_state(state)
            case "BINPERSID" if persistent is not None:
                (identity,) = take(1)
                stack.append(persistent(identity))
            case other:
                raise InputError(
                    f"{what}: uses the pickle instruction {other}, but only plain data is read (nothing was"
                    " run); save the bare state dict and use that file"
                )
    raise ValueError("no end")
