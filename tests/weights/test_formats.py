"""Checkpoint files of every kind, and other files; what is unwrapped, stripped and left out."""

import io
import itertools
import json
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from ldip_jax.errors import InputError
from ldip_jax.weights.formats import read_checkpoint, write_safetensors
from tests.weights.forge import mapping, plain, write_pth, zipped

ONE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}


def refused(path):
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.isprintable()
    return message


def put(path, content):
    path.write_bytes(content)
    return path


def safetensors_file(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return put(path, struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", "empty; get the file again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\n  <html>", "web page"),
        (b'{"error": "not found"}', "not a checkpoint"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "not a checkpoint"),
        (bytes(100), "not a checkpoint"),
        (b"PK\3\4", "damaged"),
        (b"PK\3\4" + bytes(100), "damaged"),
        (b"\x80", "damaged"),
        (b"\x80\x02N.", "holds a NoneType"),
        (b"\x80\x02}.", "no weights"),
        (b"\x80\x02]K\x01a.", "holds a list"),
    ],
)
def test_files_that_are_not_checkpoints_are_refused(tmp_path, content, hint):
    assert hint in refused(put(tmp_path / "a.pth", content))


def test_missing_and_unreadable_files_and_folders_are_refused(tmp_path):
    assert "no such file" in refused(tmp_path / "none.pth")
    assert "irectory" in refused(tmp_path)
    assert "irectory" in refused(put(tmp_path / "a", b"x") / "b.pth")


def test_the_name_of_a_file_does_not_matter(tmp_path):
    write_pth(tmp_path / "a.npz", ONE)
    assert read_checkpoint(tmp_path / "a.npz").layout == "pytorch"
    np.savez(tmp_path / "b.npz", **ONE)
    (tmp_path / "b.npz").rename(tmp_path / "b.pth")
    assert read_checkpoint(tmp_path / "b.pth").layout == "npz"
    write_safetensors(tmp_path / "c.pth", ONE, {})
    assert read_checkpoint(tmp_path / "c.pth").layout == "safetensors"


@pytest.mark.parametrize("code", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
def test_safetensors_of_every_type(tmp_path, code):
    array = np.arange(12).reshape(3, 4).astype(code)
    arrays = {
        "a": array,
        "t": array.T,
        "step": array[:, ::2],
        "scalar": array[0, 1:2].reshape(()),
        "none": array[:0],
    }
    write_safetensors(tmp_path / "a.safetensors", arrays, {"key": "value"})
    read = read_checkpoint(tmp_path / "a.safetensors")
    assert read.metadata == {"key": "value"}
    assert set(read.arrays) == set(arrays)
    for name, value in arrays.items():
        assert read.arrays[name].dtype == value.dtype
        np.testing.assert_array_equal(read.arrays[name], value)


def test_safetensors_in_bfloat16(tmp_path):
    values = np.linspace(-2, 5, 6).astype(ml_dtypes.bfloat16).reshape(2, 3)
    write_safetensors(tmp_path / "a", {"a": values, "scalar": values[0, 1].reshape(())}, {})
    read = read_checkpoint(tmp_path / "a").arrays
    np.testing.assert_array_equal(read["a"], values.astype(np.float32))
    assert read["scalar"].shape == ()
    assert read["scalar"] == np.float32(values[0, 1])


def test_damaged_safetensors_are_refused(tmp_path):
    write_safetensors(tmp_path / "good", ONE, {})
    data = (tmp_path / "good").read_bytes()
    for length in range(1, len(data), 3):
        refused(put(tmp_path / "a", data[:length]))
    assert "damaged" in refused(put(tmp_path / "a", data + b"x"))
    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    for header in (
        b"{" + b" " * 7,
        b"{" * 50_000,
        {"a": one | {"data_offsets": [4, 12]}},
        {"a": one | {"data_offsets": [8, 0]}},
        {"a": one | {"shape": [1 << 40, 1 << 40]}},
        {"a": one | {"shape": [-2]}},
        {"a": one | {"dtype": "F33"}},
        {"a": one, "b": one},
        {"a": one, "__metadata__": {"x": 1}},
        {"a": []},
        {},
    ):
        refused(safetensors_file(tmp_path / "a", header, bytes(8)))
    assert "F8_E5M2" in refused(
        safetensors_file(tmp_path / "a", {"a": one | {"dtype": "F8_E5M2", "shape": [8]}}, bytes(8))
    )
    huge = put(tmp_path / "a", struct.pack("<Q", 1 << 62) + b"{" + bytes(100))
    assert "damaged" in refused(huge)


def test_npz_plain_and_compressed(tmp_path, rng):
    arrays = {"a.b": rng.random((3, 4)), "f": np.asfortranarray(rng.random((3, 4), np.float32))}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        read = read_checkpoint(tmp_path / "a.npz")
        assert set(read.arrays) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(read.arrays[name], array)


def npy_archive(path, header):
    """An .npz of one array with this header."""
    text = header.encode() + b"\n"
    content = b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + bytes(32)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", content)
    return path


@pytest.mark.filterwarnings("ignore:Reading `.npy`")
@pytest.mark.parametrize(
    "header",
    [
        "",
        "{",
        "({",
        "'",
        "  x",
        "[" * 500,
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1 << 3,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000, 10000000000)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (4,)}",
        "{'descr': 'evil', 'fortran_order': False, 'shape': (4,)}",
        "{'descr': __import__('os').mkdir('ran'), 'fortran_order': False, 'shape': (4,)}",
    ],
)
def test_npz_with_an_impossible_header_is_refused(tmp_path, header):
    assert "damaged" in refused(npy_archive(tmp_path / "a.npz", header))
    assert not (tmp_path / "ran").exists()


def test_npz_of_objects_is_refused_unread(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}, 1], object))
    assert "damaged" in refused(tmp_path / "a.npz")


def test_truncated_or_changed_npz_is_refused(tmp_path):
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.arange(200.0), b=np.ones(3, np.float32))
    data = stream.getvalue()
    for length in range(4, len(data), 7):
        refused(put(tmp_path / "a.npz", data[:length]))
    middle = bytearray(data)
    middle[120] ^= 255
    refused(put(tmp_path / "a.npz", bytes(middle)))


def test_npz_that_unpacks_to_a_huge_size_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a.npy", bytes(300 << 20))
    assert "far more than its size allows" in refused(path)


X, Y = np.ones(2, np.float32), np.zeros(2, np.float32)


@pytest.mark.parametrize(
    ("content", "names", "notes"),
    [
        ({"x": X}, ["x"], []),
        ({"params": {"x": X}}, ["x"], ["unwrapped 'params'"]),
        ({"params": {"x": Y}, "params_ema": {"x": X}}, ["x"], ["unwrapped 'params_ema', left out params"]),
        ({"model": {"x": X}, "step": 3}, ["x"], ["unwrapped 'model', left out step"]),
        (
            {"state_dict": {"params": {"x": X}}, "meta": {"y": Y}},
            ["x"],
            ["unwrapped 'state_dict', left out meta", "unwrapped 'params'"],
        ),
        ({"module.x": X, "module.y.z": Y}, ["x", "y.z"], ["stripped 'module.'"]),
        ({"module.generator.x": X}, ["x"], ["stripped 'module.'", "stripped 'generator.'"]),
        (
            {"generator.x": X, "step_counter": np.ones(1)},
            ["x"],
            ["left out step_counter", "stripped 'generator.'"],
        ),
        (
            {"generator.x": Y, "generator_ema.x": X, "data_preprocessor.mean": Y, "step_counter": Y},
            ["x"],
            [
                "left out data_preprocessor.mean",
                "left out step_counter",
                "stripped 'generator_ema.', left out 1 other entries",
            ],
        ),
        (
            {"generator.module.x": Y, "generator_ema.module.x": X, "generator_ema.steps": Y},
            ["x"],
            [
                "stripped 'generator_ema.', left out 1 other entries",
                "left out steps",
                "stripped 'module.'",
            ],
        ),
        (
            {"module.generator.module.x": X, "module.step_counter": Y, "module.data_preprocessor.std": Y},
            ["x"],
            [
                "stripped 'module.'",
                "left out step_counter",
                "left out data_preprocessor.std",
                "stripped 'generator.'",
                "stripped 'module.'",
            ],
        ),
        ({"module.x": X, "y": Y}, ["module.x", "y"], []),
        (
            {"model_state_dict": {"x": X}, "optimizer_state_dict": {"state": {"0": {"step": 3, "avg": Y}}}},
            ["x"],
            ["unwrapped 'model_state_dict', left out optimizer_state_dict"],
        ),
        (
            {"state_dict": {"model.x": X, "loss.y": Y}, "optimizer_states": [{"state": {}}], "epoch": 3},
            ["x"],
            [
                "unwrapped 'state_dict', left out epoch, optimizer_states",
                "stripped 'model.', left out 1 other entries",
            ],
        ),
        ({"net_g": {"x": X}, "net_d": {"x": Y}}, ["x"], ["unwrapped 'net_g', left out net_d"]),
        ({"net_g.x": X, "net_d.x": Y}, ["x"], ["stripped 'net_g.', left out 1 other entries"]),
        ({"_orig_mod.x": X, "_orig_mod.y.z": Y}, ["x", "y.z"], ["stripped '_orig_mod.'"]),
        ({"module._orig_mod.x": X}, ["x"], ["stripped '_orig_mod.'", "stripped 'module.'"]),
        ({"x": X, "part._orig_mod.y": Y}, ["x", "part.y"], ["stripped '_orig_mod.'"]),
        ({"module.x": X, "generator.y": Y}, ["module.x", "generator.y"], []),
        ({"x": X, "deep": {"y": Y}, "epoch": 3}, ["x", "deep/y"], ["left out epoch, which is not an array"]),
    ],
)
def test_wrappers_and_prefixes(tmp_path, content, names, notes):
    def instructions(value):
        if isinstance(value, dict):
            return mapping({key: instructions(item) for key, item in value.items()})
        return plain(value)

    read = read_checkpoint(zipped(tmp_path / "a.pth", instructions(content), {}))
    assert list(read.arrays) == names
    assert read.notes == notes
    if "x" in names:
        np.testing.assert_array_equal(read.arrays["x"], X)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_nested_prefixes_in_any_order(tmp_path, depth):
    for chain in itertools.product(("module.", "generator.", "generator_ema."), repeat=depth):
        wrapped = {f"{''.join(chain)}{name}": array for name, array in {"x": X, "y.z": Y}.items()}
        read = read_checkpoint(write_pth(tmp_path / "a.pth", wrapped, wrap="state_dict"))
        assert list(read.arrays) == ["x", "y.z"], chain
        assert read.notes[1:] == [f"stripped {prefix!r}" for prefix in chain]


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "x" * 501, "a\u202eb"])
def test_names_that_cannot_be_shown_are_refused(tmp_path, name):
    assert "name that cannot be one" in refused(write_pth(tmp_path / "a.pth", {name: X}))
    safetensors.numpy.save_file({name: X}, tmp_path / "a.safetensors")
    assert "name that cannot be one" in refused(tmp_path / "a.safetensors")


def test_a_failed_write_keeps_existing_files(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, ONE, {})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_safetensors(path, ONE, {"number": 3})
    monkeypatch.setattr("os.replace", lambda *names: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_safetensors(path, {"b": X}, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InputError, match="cannot be written"):
        write_safetensors(tmp_path / "none" / "a.safetensors", ONE, {})


def test_a_checksum_finds_every_flipped_bit(tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"a": np.arange(8, dtype=np.float32), "b": np.ones(3, np.int8)}, {"key": "value"})
    read = read_checkpoint(path)
    assert read.has_checksum
    assert read.metadata == {"key": "value"}
    data = path.read_bytes()
    # A file that does not mention its checksum is read without verification.
    field = data.index(b"content_sha256")
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1
        put(path, bytes(flipped))
        if field <= place < field + len("content_sha256"):
            assert not read_checkpoint(path).has_checksum
        else:
            refused(path)
    put(path, data.replace(b"value", b"other"))
    assert "its content does not match its checksum" in refused(path)


def test_files_without_a_checksum_are_read(tmp_path):
    safetensors.numpy.save_file(ONE, tmp_path / "a.safetensors", {"key": "value"})
    read = read_checkpoint(tmp_path / "a.safetensors")
    assert not read.has_checksum
    assert read.metadata == {"key": "value"}


def sharded(folder, shards, **files):
    """Weights in several files, and their index."""
    where = {}
    for name, arrays in shards.items():
        safetensors.numpy.save_file(arrays, folder / name)
        where |= dict.fromkeys(arrays, name)
    index = {"metadata": {"total_size": 1}, "weight_map": where | files}
    return put(folder / "model.safetensors.index.json", json.dumps(index).encode())


def test_weights_in_several_files(tmp_path):
    shards = {"1.safetensors": {"model.x": X, "model.y.z": Y}, "2.safetensors": {"model.a": ONE["a"]}}
    index = sharded(tmp_path, shards)
    read = read_checkpoint(index)
    assert set(read.arrays) == {"x", "y.z", "a"}
    np.testing.assert_array_equal(read.arrays["a"], ONE["a"])
    assert read.layout == "safetensors"
    before = read.sha256
    safetensors.numpy.save_file({"model.a": ONE["a"] + 1}, tmp_path / "2.safetensors")
    assert read_checkpoint(index).sha256 != before
    (tmp_path / "2.safetensors").unlink()
    assert "2.safetensors is missing" in refused(index)


def test_an_index_that_points_elsewhere_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    safetensors.numpy.save_file(ONE, tmp_path / "out.safetensors")
    for name in ("../out.safetensors", str(tmp_path / "out.safetensors"), "/etc/passwd", ""):
        assert "not a file beside it" in refused(sharded(tmp_path / "in", {}, a=name))
    assert "arrays are missing" in refused(
        sharded(tmp_path / "in", {"1.safetensors": ONE}, b="1.safetensors")
    )
    refused(sharded(tmp_path / "in", {}, a=3))
    refused(sharded(tmp_path / "in", {}))
