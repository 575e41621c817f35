"""Pickles that try to run code or to exhaust the machine are refused, and nothing happens."""

import collections
import io
import os
import pickle
import struct
import subprocess

import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.weights import limits
from ldip_jax.weights.formats import read_checkpoint
from ldip_jax.weights.pth import NAMES
from ldip_jax.weights.unpickle import unpickle
from tests.weights.forge import call, finished, mapping, name, plain, stored, streamed, tensor, zipped

MARKER = "the code ran"
SHELL = f"touch '{MARKER}'"


class Reduced:
    """An object whose `__reduce__` returns the given parts."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


def short(text):
    return b"\x8c" + struct.pack("<B", len(text)) + text.encode()


def from_python(value, protocol=2):
    return pickle.dumps(value, protocol=protocol)


RUN = Reduced(os.system, (SHELL,))
IMPORT = call("builtins.__import__", plain("os"))
WRITE = f"open({MARKER!r}, 'w').close()"

# Each creates the marker file in Python's own unpickler.
ATTACKS = {
    "system": from_python(RUN),
    "system, protocol 4": from_python(RUN, 4),
    "system, protocol 5": from_python(RUN, 5),
    "eval": from_python(Reduced(eval, (WRITE,))),
    "exec": from_python(Reduced(exec, (WRITE,))),
    "mkdir": from_python(Reduced(os.mkdir, (MARKER,))),
    "subprocess": from_python(Reduced(subprocess.check_call, (["touch", MARKER],))),
    "deep in a state dict": from_python({"params": collections.OrderedDict(a=[1, {"b": (RUN,)}])}),
    "as a key": from_python({"params": {RUN: 1}}),
    "before a state dict": finished(call("os.system", plain(SHELL)) + b"0" + mapping({"a": plain(1)})),
    "getattr chain": finished(
        name("builtins.getattr") + b"(" + IMPORT + plain("system") + b"tR(" + plain(SHELL) + b"tR"
    ),
    "dotted name": b"\x80\x04" + short("codecs") + short("builtins.exec") + b"\x93" + plain((WRITE,)) + b"R.",
    "name from the memo": b"\x80\x04"
    + mapping({"a": short("os") + b"\x94", "b": short("system") + b"\x94"}).replace(b"q\x00", b"")
    + b"0h\x00h\x01\x93"
    + plain((SHELL,))
    + b"R.",
    "function from the memo": finished(name("os.system") + b"q\x070h\x07" + plain((SHELL,)) + b"R"),
    "INST": b"\x80\x02(" + plain(SHELL) + b"ios\nsystem\n.",
    "OBJ": b"\x80\x02(" + name("subprocess.Popen") + plain(["touch", MARKER]) + b"o.",
    "NEWOBJ": finished(
        name("builtins.list")
        + name("builtins.map")
        + b"("
        + name("os.system")
        + plain([SHELL])
        + b"t\x81\x85R"
    ),
    "state": from_python(Reduced(collections.OrderedDict, (), {"a": RUN})),
    "items of a list": from_python(Reduced(list, (), None, iter([RUN]))),
    "items of a dict": from_python(Reduced(collections.OrderedDict, (), None, None, iter([("a", RUN)]))),
    "__setstate__": finished(
        call("types.SimpleNamespace")
        + mapping({"__setstate__": name("os.system")})
        + b"b"
        + plain(SHELL)
        + b"b"
    ),
    "nested pickle": finished(call("pickle.loads", b"C" + bytes([len(from_python(RUN))]) + from_python(RUN))),
}


def files(path, attack):
    """The attack as a bare pickle, in a zip archive and as each pickle of the older layout."""
    bare = path / "bare.pth"
    bare.write_bytes(attack)
    yield bare
    yield zipped(path / "zip.pth", attack[2:-1], {})
    yield streamed(path / "stream.pth", attack[2:-1], {})
    honest = streamed(path / "honest.pth", mapping({"a": plain(1)}), {}).read_bytes()
    ends = [index + 1 for index in range(len(honest)) if honest[index : index + 3] == b".\x80\x02"]
    for number, end in enumerate(ends):
        mixed = path / f"mixed{number}.pth"
        mixed.write_bytes(honest[:end] + attack)
        yield mixed


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_nothing_is_run(tmp_path, attack):
    for path in files(tmp_path, attack):
        with pytest.raises(InputError, match="nothing was run") as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value)
        assert not os.path.exists(MARKER)

    # The attack is a real one.
    try:
        result = pickle.loads(attack)
        if isinstance(result, subprocess.Popen):
            result.wait()
    finally:
        assert os.path.exists(MARKER)


def interpreted(body, names=None, **more):
    return unpickle(io.BytesIO(finished(body)), "it", names or {}, **more)


def test_plain_data_is_restored():
    shared = ["a", (1, 2.5)]
    value = {
        "none": None,
        "flags": (True, False),
        "numbers": [0, -1, 255, 65536, -(2**31), 2**31, -(2**80), 1e300, float("-inf")],
        "texts": ("", "ä\n", "x" * 300),
        "bytes": [b"\xff", b"y" * 300],
        "shared": [shared, shared],
        3: {},
    }
    for protocol in (2, 3, 4):
        names = {"_codecs.encode": lambda text, encoding: text.encode(encoding)}
        assert unpickle(io.BytesIO(pickle.dumps(value, protocol)), "it", names) == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"0",
        b"N" + b"N",
        b"\x85",
        b"t",
        b"h\x05",
        b"q\x00",
        b"NR",
        b"NNR",
        b"Nb",
        b"NNb",
        b"Na",
        b"NNa",
        b"}NNa",
        b"](NNu",
        b"}(Nu",
        b"}]Ns",
        b"}NQ",
        b"\x93",
        b"NN\x93",
        plain("os") + plain(["system"]) + b"\x93",
        b"}}R",
        b"\x82\x01",
        b"Pos\n",
        b"\x97",
        b"\x96" + struct.pack("<Q", 1) + b"x",
        b"\x8f",
        b"cos",
        b"c\n\n",
        b"\x8b" + struct.pack("<i", -1),
        b"X\xff\xff\xff\xff",
        b"\x8d" + b"\xff" * 8,
        b"\xff",
        plain("\ud800").replace(b"\xed\xa0\x80", b"\xff\xfe\xfd"),
    ],
)
def test_a_malformed_pickle_is_an_input_error(body):
    with pytest.raises(InputError) as caught:
        interpreted(body)
    assert str(caught.value).isprintable()


def test_names_are_shown_without_control_characters():
    with pytest.raises(InputError) as caught:
        interpreted(b"cos\n\x1b[2Jsystem\r\n")
    assert r"os.\x1b[2Jsystem" in str(caught.value)


def test_only_functions_in_the_table_are_called():
    names = {"a.data": 5, "a.make": dict}
    with pytest.raises(InputError, match="not a function"):
        interpreted(call("a.data"), names)
    with pytest.raises(InputError, match="not a function"):
        interpreted(plain("a.make") + b")R", names)
    with pytest.raises(InputError, match="not a function"):
        interpreted(name("a.make") + b"]R", names)
    assert interpreted(call("a.make"), names) == {}
    assert interpreted(name("a.data"), names).name == "a.data"


def doubled(times):
    """Tuples that hold the next one twice: small, but with 2**times leaves as a tree."""
    return b")" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(times))


DEEP = b")" + 5000 * b"\x85"
LONG_TEXT = plain("y" * (1 << 16)) + b"q\x01"
LONG_LIST = b"](" + b"K\x00" * (1 << 10) + b"eq\x01"
STORAGE = stored("Float", "0", 24)
ARRAY = call("numpy.core.multiarray._reconstruct", name("numpy.ndarray"))

BOMBS = {
    "a tree without end": doubled(200),
    "a wide tree": mapping({"a": doubled(28)}),
    "a tree without end in a name": doubled(200) + plain("x") + b"\x93",
    "a tree without end as a type": call("numpy.dtype", doubled(200)),
    "a tree without end as an encoding": call("_codecs.encode", plain("x"), doubled(200)),
    "a tree without end as a storage": doubled(200) + b"Q",
    "a list in itself": b"]q\x00h\x00a",
    "tuples in tuples": DEEP,
    "tuples in tuples as a key": b"}" + DEEP + b"Ns",
    "tuples in tuples as a name": DEEP + plain("x") + b"\x93",
    "a number of a million digits": mapping({"a": tensor(STORAGE, (1 << 4_000_000,), (1,))}),
    "one text copied": LONG_TEXT
    + b"]("
    + 600 * (name("_codecs.encode") + b"h\x01" + plain("latin1") + b"\x86R")
    + b"e",
    "one list copied": LONG_LIST + b"](" + 30 * (name("torch.Size") + b"h\x01\x85R") + b"e",
    "one text as many arrays": LONG_TEXT
    + b"]("
    + 600 * (ARRAY + b"(" + plain(1) + plain((1 << 16,)) + call("numpy.dtype", plain("u1")) + b"\x89h\x01tb")
    + b"e",
    "one storage expanded": mapping({"a": tensor(STORAGE, (1 << 30, 1 << 20), (0, 0))}),
    "one tensor many times": mapping({f"{n}": tensor(STORAGE, (1 << 16,), (0,)) for n in range(9)}),
}


@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS)
def test_a_small_file_cannot_exhaust_the_machine(tmp_path, monkeypatch, body):
    monkeypatch.setattr(limits, "MARGIN", 1 << 20)
    for path in (
        zipped(tmp_path / "a.pth", body, {"0": bytes(96)}),
        streamed(tmp_path / "b.pth", body, {"0": (24, bytes(96))}),
    ):
        with pytest.raises(InputError, match="damaged"):
            read_checkpoint(path)


@pytest.mark.parametrize("bomb", ["one text copied", "one list copied", "one text as many arrays"])
def test_copies_are_counted_while_they_are_made(monkeypatch, bomb):
    monkeypatch.setattr(limits, "MARGIN", 1 << 20)
    with pytest.raises(InputError, match="far more than its size allows"):
        interpreted(BOMBS[bomb], NAMES)


@pytest.mark.parametrize("key", [b")", b"]", b"}", b"(", name("torch.Size"), STORAGE])
def test_keys_must_be_plain(tmp_path, key):
    with pytest.raises(InputError, match="damaged"):
        read_checkpoint(zipped(tmp_path / "a.pth", b"}" + key + b"Ns", {}))


@pytest.mark.parametrize("code", ["O8", "V16", "M8", "U5", "S3", "c8", "f3", "f", "i9999999999", "(2,)f4"])
def test_arrays_of_anything_but_numbers_are_refused(tmp_path, code):
    body = mapping({"a": call("numpy.dtype", plain(code), b"\x89\x88")})
    with pytest.raises(InputError, match="damaged"):
        read_checkpoint(zipped(tmp_path / "a.pth", body, {}))


def test_arrays_of_objects_with_code_are_refused(tmp_path):
    attack = np.array([RUN, 1], dtype=object)
    for protocol in (2, 4):
        (tmp_path / "a.pkl").write_bytes(from_python({"a": attack}, protocol))
        with pytest.raises(InputError, match=r"nothing was run|arrays of O"):
            read_checkpoint(tmp_path / "a.pkl")
        assert not os.path.exists(MARKER)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("code", ["f8", "f4", "f2", "i8", "u2", "b1", ">f4"])
def test_pickled_arrays_are_restored(tmp_path, rng, protocol, code):
    array = (100 * rng.random((3, 4))).astype(code)
    arrays = {
        "c": array,
        "fortran": np.asfortranarray(array),
        "one": array[1, 2:3].reshape(()),
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"params": arrays, "score": array[0, 0]}, protocol))
    read = read_checkpoint(tmp_path / "a.pkl")
    assert list(read.arrays) == list(arrays)
    for key, value in read.arrays.items():
        np.testing.assert_array_equal(value, arrays[key])
        assert value.dtype.isnative
        assert value.flags.c_contiguous
    assert read.notes == ["unwrapped 'params', left out score"]
