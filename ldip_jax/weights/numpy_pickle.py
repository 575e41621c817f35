"""Inert stand-ins for the parts of a pickled NumPy array, for the restricted unpickler."""

from typing import Any

import numpy as np

from ldip_jax.weights.unpickle import Name, Stateful


class PickledType(Stateful):
    """Stand-in for `numpy.dtype` of plain numbers: floats, integers, bool."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *_: Any):
        if type(code) is not str:
            raise TypeError("a type that is not a string")
        if code[:1] not in "fiub" or not code[1:].isdecimal():
            raise ValueError(f"arrays of {code}")
        self.dtype = np.dtype(code)

    def set_state(self, state: Any) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class PickledArray(Stateful):
    """Stand-in for `numpy.ndarray`; `array` is a view of the pickle's bytes once the state is set."""

    __slots__ = ("array",)

    def __init__(self):
        self.array = None

    def set_state(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if not isinstance(kind, PickledType):
            raise TypeError("an array without a type")
        data = data.encode("latin1") if isinstance(data, str) else data
        self.array = np.frombuffer(data, kind.dtype).reshape(tuple(shape), order="F" if fortran else "C")


def _reconstruct(kind: Any, *_: Any) -> PickledArray:
    if type(kind) is not Name or kind.name != "numpy.ndarray":
        raise TypeError("a subclass of an array")
    return PickledArray()


def _scalar(kind: Any, data: Any) -> PickledArray:
    array = PickledArray()
    array.set_state((1, (), kind, False, data))
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or type(encoding) is not str or encoding != "latin1":
        raise ValueError("bytes in an unknown encoding")
    return text.encode(encoding)


NUMPY_NAMES = {
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.ndarray": None,
    "numpy.dtype": PickledType,
    "_codecs.encode": _encode,
}
