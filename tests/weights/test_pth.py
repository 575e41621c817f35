"""PyTorch's files without PyTorch: windows into storages, both layouts, and every kind of damage."""

import random
import zipfile

import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.weights.formats import read_checkpoint
from tests.weights.forge import (
    MAGIC,
    call,
    finished,
    mapping,
    name,
    plain,
    stored,
    streamed,
    tensor,
    write_pth,
    zipped,
)

FLOATS = np.arange(24, dtype="<f4")
LAYOUTS = pytest.mark.parametrize("layout", ["zip", "stream"])


def write(path, layout, body, data=FLOATS):
    """A file in one of the layouts; "0" is the only storage that `body` may read."""
    if layout == "zip":
        return zipped(path, body, {"0": data.tobytes()})
    return streamed(path, body, {"0": (data.size, data.tobytes())})


def refused(path):
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert message.isprintable()
    return message


@LAYOUTS
@pytest.mark.parametrize("code", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1"])
def test_every_type_of_number(tmp_path, rng, layout, code):
    arrays = {"a": (100 * rng.random((2, 3, 4))).astype(code), "scalar": np.ones((), code)}
    read = read_checkpoint(write_pth(tmp_path / "a.pth", arrays, layout=layout)).arrays
    assert list(read) == ["a", "scalar"]
    for key, array in arrays.items():
        assert read[key].dtype == array.dtype
        np.testing.assert_array_equal(read[key], array)


@LAYOUTS
@pytest.mark.parametrize("shape", [(), (5,), (2, 2)])
def test_bfloat16_becomes_float32(tmp_path, layout, shape):
    values = np.linspace(-3, 7, int(np.prod(shape))).reshape(shape).astype("<f4")
    bits = (values.view("<u4") >> 16).astype("<u2")
    body = mapping({"a": tensor(stored("BFloat16", "0", bits.size), shape, (2, 1)[2 - len(shape) :])})
    array = read_checkpoint(write(tmp_path / "a.pth", layout, body, bits)).arrays["a"]
    assert array.dtype == np.float32
    assert array.shape == shape
    np.testing.assert_allclose(array, values, rtol=1 / 128)


@LAYOUTS
def test_windows_into_one_storage(tmp_path, layout):
    storage = stored("Float", "0", 24)
    body = mapping(
        {
            "transposed": tensor(storage, (4, 6), (1, 4)),
            "expanded": tensor(storage, (3, 5), (1, 0), 7),
            "column": tensor(storage, (4,), (6,), 5),
            "corner": tensor(storage, (2, 2), (6, 1), 15),
            "last": tensor(storage, (), (), 23),
            "none": tensor(storage, (0, 9), (9, 1), 24),
            "one": tensor(storage, (1, 1), (1 << 40, 77), 3),
        }
    )
    read = read_checkpoint(write(tmp_path / "a.pth", layout, body)).arrays
    square = FLOATS.reshape(4, 6)
    np.testing.assert_array_equal(read["transposed"], FLOATS.reshape(6, 4).T)
    np.testing.assert_array_equal(read["expanded"], np.repeat(FLOATS[7:10, None], 5, axis=1))
    np.testing.assert_array_equal(read["column"], square[:, 5])
    np.testing.assert_array_equal(read["corner"], square[2:, 3:5])
    assert read["last"] == 23
    assert read["none"].shape == (0, 9)
    assert read["one"] == [[3]]
    assert all(array.flags.c_contiguous and array.flags.writeable for array in read.values())


def test_views_of_storages_in_the_older_layout(tmp_path):
    view = plain(("1", 6, 12))
    body = mapping({"a": tensor(stored("Float", "0", 24, view), (3, 4), (4, 1))})
    array = read_checkpoint(write(tmp_path / "a.pth", "stream", body)).arrays["a"]
    np.testing.assert_array_equal(array, FLOATS[6:18].reshape(3, 4))


def test_big_endian_numbers_and_parameters(tmp_path):
    inner = tensor(stored("Float", "0", 24), (24,), (1,))
    hooks = call("collections.OrderedDict")
    body = mapping({"a": call("torch._utils._rebuild_parameter", inner, plain(True), hooks)})
    path = zipped(tmp_path / "a.pth", body, {"0": FLOATS.astype(">f4").tobytes()}, byteorder=b"big")
    np.testing.assert_array_equal(read_checkpoint(path).arrays["a"], FLOATS)


def test_a_compressed_archive(tmp_path):
    body = mapping({"a": tensor(stored("Float", "0", 24), (24,), (1,))})
    path = zipped(tmp_path / "a.pth", body, {"0": FLOATS.tobytes()}, deflate=True)
    np.testing.assert_array_equal(read_checkpoint(path).arrays["a"], FLOATS)


@LAYOUTS
@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((25,), (1,), 0),
        ((24,), (1,), 1),
        ((4, 6), (6, 2), 0),
        ((2, 2), (1 << 59, 1), 0),
        ((1,), (1,), 24),
        ((1,), (1,), 1 << 62),
        ((-1,), (1,), 0),
        ((3,), (-1,), 5),
        ((3,), (1,), -1),
        ((3, 3), (3,), 0),
        ((True,), (1,), 0),
        ((2.0,), (1,), 0),
        ((1,) * 17, (1,) * 17, 0),
        ((1 << 200,), (1,), 0),
        ((1 << 40, 1 << 40), (0, 0), 0),
        ((0, 1 << 62), (1, 1), 0),
        ((3,), ("1",), 0),
        ([3], [1], 0),
    ],
)
def test_impossible_tensors_are_refused(tmp_path, layout, shape, strides, offset):
    body = mapping({"a": tensor(stored("Float", "0", 24), shape, strides, offset)})
    assert "damaged" in refused(write(tmp_path / "a.pth", layout, body))


@LAYOUTS
@pytest.mark.parametrize(
    "storage",
    [
        stored("Float", "0", 23),
        stored("Float", "0", 25),
        stored("Float", "0", -1),
        stored("Double", "0", 24),
        stored("Float", "0", 1 << 61),
        stored("Float", "1", 24),
        plain(("storage", "Float", "0", "cpu", 24)) + b"Q",
        plain("storage") + b"Q",
        plain(7) + b"Q",
        b"(" + plain("module") + name("torch.FloatStorage") + plain("0") + plain("cpu") + plain(24) + b"tQ",
        plain(None),
    ],
)
def test_inconsistent_storages_are_refused(tmp_path, layout, storage):
    body = mapping({"a": tensor(storage, (2,), (1,))})
    assert "damaged" in refused(write(tmp_path / "a.pth", layout, body))


def test_wrong_counts_and_keys_of_the_older_layout_are_refused(tmp_path):
    body = mapping({"a": tensor(stored("Float", "0", 24), (2,), (1,))})
    data = FLOATS.tobytes()
    assert "truncated" in refused(streamed(tmp_path / "a.pth", body, {"0": (24, data[:-1])}))
    assert "truncated" in refused(streamed(tmp_path / "a.pth", body, {"0": (-24, data)}))
    assert "damaged" in refused(streamed(tmp_path / "a.pth", body, {"1": (24, data)}))
    assert "damaged" in refused(streamed(tmp_path / "a.pth", body, {}))

    good = streamed(tmp_path / "a.pth", body, {"0": (24, data)}).read_bytes()
    deep = b")" + 10 * b"\x85"
    (tmp_path / "b.pth").write_bytes(good.replace(finished(plain(["0"])), finished(b"](" + deep + b"e")))
    assert "storage without a name" in refused(tmp_path / "b.pth")


def test_a_newer_version_of_the_older_layout_is_refused(tmp_path):
    (tmp_path / "a.pth").write_bytes(finished(plain(MAGIC)) + finished(plain(1002)) + finished(plain({})))
    assert "unknown version" in refused(tmp_path / "a.pth")


def test_archives_that_are_not_checkpoints_are_refused(tmp_path):
    body = mapping({"a": tensor(stored("Float", "0", 24), (24,), (1,))})
    script = zipped(tmp_path / "a.pth", body, {"0": FLOATS.tobytes()}, **{"constants.pkl": b"\x80\x02)."})
    assert "TorchScript" in refused(script)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("weights/net.pth", b"x")
    assert "PyTorch did not write" in refused(tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("a/data.pkl", finished(body))
        archive.writestr("b/data.pkl", finished(body))
    assert "PyTorch did not write" in refused(tmp_path / "c.zip")
    packed = tmp_path / "d.pth"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("archive/data.pkl", finished(body))
    assert "compressed in a way" in refused(packed)
    odd = zipped(tmp_path / "e.pth", body, {"0": FLOATS.tobytes()}, byteorder=b"middle")
    assert "byte order" in refused(odd)


@pytest.mark.parametrize("member", ["data.pkl", "byteorder"])
def test_an_archive_that_unpacks_to_a_huge_size_is_refused(tmp_path, member):
    path = tmp_path / "a.pth"
    members = {"data.pkl": finished(mapping({})), member: b"." * (300 << 20)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)
    assert path.stat().st_size < 4 << 20
    assert "far more than its size allows" in refused(path)


def test_a_changed_byte_is_detected(tmp_path):
    path = write_pth(tmp_path / "a.pth", {"a": FLOATS})
    data = path.read_bytes()
    assert data.count(FLOATS.tobytes()) == 1
    path.write_bytes(data.replace(FLOATS.tobytes(), (FLOATS + 1).tobytes()))
    assert "CRC" in refused(path)


@LAYOUTS
@pytest.mark.filterwarnings("ignore:invalid escape")
def test_truncated_or_changed_files_raise_only_input_errors(tmp_path, layout):
    whole = write_pth(tmp_path / "a.pth", {"a.b": FLOATS, "c": FLOATS[:6].reshape(2, 3)}, layout=layout)
    data = whole.read_bytes()
    path = tmp_path / "b.pth"
    for length in range(0, len(data) - 1, 7):
        path.write_bytes(data[:length])
        refused(path)

    noise = random.Random(0)
    messages = []
    for _ in range(200):
        changed = bytearray(data)
        for _ in range(noise.randint(1, 3)):
            changed[noise.randrange(len(data))] = noise.randrange(256)
        path.write_bytes(changed)
        try:
            read_checkpoint(path)
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > 80
    assert all(message.isprintable() for message in messages)
