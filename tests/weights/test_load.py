"""Checkpoints of the networks: in both namings and every container, loaded strictly, and converted."""

import dataclasses
import hashlib
import json

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from ldip_jax.errors import InputError
from ldip_jax.weights import load
from ldip_jax.weights.catalogue import CATALOGUE
from ldip_jax.weights.formats import read_checkpoint, write_safetensors
from ldip_jax.weights.load import load_weights, save_weights
from ldip_jax.weights.rules import flatten
from tests.weights.forge import write_pth
from tests.weights.narrow import BLOCKS, WIDTH, as_mmagic, basicvsr_arrays, spynet_arrays


@pytest.fixture(scope="module")
def arrays():
    return basicvsr_arrays()


@pytest.fixture(scope="module")
def converted(arrays, tmp_path_factory):
    """Weights loaded from a checkpoint, and a .safetensors file of them."""
    folder = tmp_path_factory.mktemp("converted")
    weights = load_weights(write_pth(folder / "net.pth", arrays, wrap="params"))
    save_weights(folder / "net.safetensors", weights)
    return weights, folder / "net.safetensors"


def assert_same(a, b):
    a, b = flatten(a), flatten(b)
    assert set(a) == set(b)
    for name, leaf in a.items():
        assert leaf.dtype == b[name].dtype == np.float32
        np.testing.assert_array_equal(leaf, b[name])


def refused(path, **more):
    with pytest.raises(InputError) as caught:
        load_weights(path, **more)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_every_weight_finds_its_place(arrays, converted):
    weights, _ = converted
    assert weights.network == "basicvsr"
    assert weights.config == {"mid_channels": WIDTH, "num_blocks": BLOCKS}
    params = weights.params
    for side in ("backward", "forward"):
        trunk = params[f"{side}_trunk"]
        first = arrays[f"{side}_trunk.main.0.weight"]
        np.testing.assert_array_equal(trunk["main_0"]["kernel"], first.transpose(2, 3, 1, 0))
        for block in range(BLOCKS):
            for part in ("conv1", "conv2"):
                kernel = arrays[f"{side}_trunk.main.2.{block}.{part}.weight"].transpose(2, 3, 1, 0)
                np.testing.assert_array_equal(trunk["main_2"][part]["kernel"][block], kernel)
    module = params["spynet"]["basic_module_4"]["basic_module_6"]
    np.testing.assert_array_equal(module["bias"], arrays["spynet.basic_module.4.basic_module.6.bias"])
    used = sum(array.size for name, array in arrays.items() if not name.endswith((".mean", ".std")))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == used
    assert "left out spynet.mean, a constant of the network" in weights.notes


def test_both_namings_in_every_container(arrays, converted, tmp_path):
    weights, _ = converted
    mmagic = {f"generator.{name}": array for name, array in as_mmagic(arrays).items()}
    assert not set(mmagic) & set(arrays)
    mmagic["step_counter"] = np.zeros(1, np.int64)
    for path in (
        write_pth(tmp_path / "a.pth", mmagic, wrap="state_dict"),
        write_pth(tmp_path / "b.pth", {f"module.{k}": v for k, v in arrays.items()}, layout="stream"),
    ):
        other = load_weights(path)
        assert_same(other.params, weights.params)
        assert other.config == weights.config
        assert other.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    write_safetensors(tmp_path / "c.safetensors", as_mmagic(arrays), {"format": "pt"})
    assert_same(load_weights(tmp_path / "c.safetensors").params, weights.params)
    np.savez(tmp_path / "d.npz", **arrays)
    assert_same(load_weights(tmp_path / "d.npz").params, weights.params)


def test_spynet_by_itself_in_both_namings(tmp_path):
    arrays = spynet_arrays(3)
    a = load_weights(write_pth(tmp_path / "a.pth", arrays))
    b = load_weights(write_pth(tmp_path / "b.pth", as_mmagic(arrays), wrap="state_dict"))
    assert a.network == b.network == "spynet"
    assert_same(a.params, b.params)
    kernel = arrays["basic_module.5.basic_module.8.weight"]
    found = a.params["basic_module_5"]["basic_module_8"]["kernel"]
    np.testing.assert_array_equal(found, kernel.transpose(2, 3, 1, 0))


def test_a_mixture_of_both_namings_is_refused(arrays, tmp_path):
    both = arrays | {name: array for name, array in as_mmagic(arrays).items() if name.startswith("upsample1")}
    message = refused(write_pth(tmp_path / "a.pth", both))
    assert "fills upconv1/kernel a second time" in message


def test_every_error_in_a_checkpoint_is_reported(arrays, tmp_path):
    wrong = dict(arrays)
    del wrong["conv_hr.weight"]
    del wrong["forward_trunk.main.2.0.conv2.bias"]
    wrong["forward_trunk.main.2.2.conv2.bias"] = arrays["conv_last.bias"]
    wrong["dcn.weight"] = arrays["fusion.weight"]
    wrong["fusion.bias"] = np.zeros(WIDTH + 1, np.float32)
    wrong["conv_last.bias"] = np.array([0, np.nan, 0], np.float32)
    wrong["spynet.mean"] = arrays["spynet.mean"] + 0.1
    message = refused(write_pth(tmp_path / "a.pth", wrong))
    for part in (
        "as BasicVSR",
        "conv_hr/kernel: missing",
        "forward_trunk/main_2/conv2/bias, layer 0: missing",
        "forward_trunk/main_2/conv2/bias, layer 2: one too many",
        "dcn.weight: not part of this network",
        "fusion/bias: shape (9,), (8,) expected",
        "conv_last.bias: holds NaN or infinity",
        "spynet.mean: holds other values",
    ):
        assert part in message


@pytest.mark.parametrize("size", [0, 3, 10**6])
def test_a_trunk_of_an_impossible_width_is_refused(arrays, tmp_path, size):
    wrong = arrays | {"backward_trunk.main.0.bias": np.zeros(size, np.float32)}
    assert "as BasicVSR" in refused(write_pth(tmp_path / "a.pth", wrong))


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("image_cleaning.0.weight", "RealBasicVSR"),
        ("backward_fusion.weight", "IconVSR"),
        ("pcd_align.offset_conv1.l3.weight", "EDVR"),
        ("lin0.model.1.weight", "LPIPS"),
        ("body.3.rdb1.conv1.weight", "ESRGAN"),
        ("fc.weight", "image classifier"),
        ("lrrf/x/kernel", "LRRF"),
        ("something.weight", r"unknown network \(something.weight"),
    ],
)
def test_other_networks_are_named(tmp_path, name, title):
    path = write_pth(tmp_path / "a.pth", {name: np.zeros(2, np.float32)})
    with pytest.raises(InputError, match=title.replace("+", r"\+")) as caught:
        load_weights(path)
    assert "BasicVSR, BasicVSR++, IART, SPyNet, GMFlow" in str(caught.value)


def test_the_wrong_network_is_reported_before_anything_is_fetched(tmp_path, monkeypatch):
    path = write_pth(tmp_path / "a.pth", spynet_arrays())
    assert "holds weights of SPyNet; weights of BasicVSR are needed" in refused(path, network="basicvsr")
    assert load_weights(path, network=("basicvsr", "spynet")).network == "spynet"
    monkeypatch.setattr(load, "fetch", lambda *_, **__: pytest.fail("fetched"))
    assert "weights of BasicVSR are needed" in refused("gmflow", network="basicvsr")
    assert "LPIPS v0.1 on AlexNet" in refused("lpips-alex", network=("basicvsr", "gmflow"))
    assert "a city from above" in refused("cityCC0")


def test_unknown_names_and_missing_files_are_refused(tmp_path):
    assert "did you mean basicvsr-reds4" in refused("basicvsr-red4")
    assert "neither a file nor a name" in refused(tmp_path / "none.pth")
    assert "irectory" in refused(tmp_path)
    assert "neither a file nor a name" in refused("x" * 5000)


def test_an_original_file_is_recognised_by_its_sha256_under_any_name(tmp_path, monkeypatch):
    path = write_pth(tmp_path / "my file.pth", spynet_arrays())
    entry = dataclasses.replace(
        CATALOGUE["basicvsr-reds4"], name="known", sha256=hashlib.sha256(path.read_bytes()).hexdigest()
    )
    assert load_weights(path).name == "my file.pth"
    assert "unknown" in load_weights(path).licence
    monkeypatch.setitem(CATALOGUE, "known", entry)
    assert load_weights(path).name == "known"
    assert load_weights(path).licence == entry.licence
    save_weights(tmp_path / "converted.safetensors", load_weights(path))
    assert load_weights(tmp_path / "converted.safetensors").name == "known"


def test_a_file_is_read_once_for_its_network_and_its_weights(converted, tmp_path, monkeypatch):
    files = []
    monkeypatch.setattr(load, "read_checkpoint", lambda path: files.append(path) or read_checkpoint(path))
    path = tmp_path / "net.safetensors"
    path.write_bytes(converted[1].read_bytes())
    for _ in range(2):
        assert load.network_of(path)[0].name == "basicvsr"
    assert_same(load_weights(path).params, converted[0].params)
    assert len(files) == 1
    # Another file under the same name is another one.
    spynet = load_weights(write_pth(tmp_path / "flow.pth", spynet_arrays()))
    assert load.network_of(path)[0].name == "basicvsr"
    save_weights(path, spynet)
    assert load.network_of(path)[0].name == spynet.network


def test_converted_weights_keep_their_origin(converted, tmp_path):
    weights, path = converted
    again = load_weights(path)
    assert_same(again.params, weights.params)
    bare = {"params": {}, "notes": []}
    assert dataclasses.replace(again, **bare) == dataclasses.replace(weights, **bare)
    assert again.sha256 != hashlib.sha256(path.read_bytes()).hexdigest()
    assert "converted from net.pth" in again.notes
    save_weights(tmp_path / "twice.safetensors", again)
    twice = load_weights(tmp_path / "twice.safetensors")
    assert_same(twice.params, weights.params)
    assert twice.sha256 == weights.sha256


@pytest.mark.parametrize(
    "change",
    [
        {"network": "raft"},
        {"network": None},
        {"network": "gmflow"},
        {"config": "[]"},
        {"config": "{"},
        {"config": "[" * 100_000},
        {"config": None},
        {"config": '{"mid_channels": 8}'},
        {"config": '{"mid_channels": 8, "num_blocks": 2, "name": "x"}'},
        {"config": '{"mid_channels": 8, "num_blocks": 2, "band_pixels": 64}'},
        {"config": '{"mid_channels": "8", "num_blocks": 2}'},
        {"config": '{"mid_channels": true, "num_blocks": 2}'},
        {"config": '{"mid_channels": -8, "num_blocks": 2}'},
        {"config": '{"mid_channels": 0, "num_blocks": 2}'},
        {"config": '{"mid_channels": 8, "num_blocks": 3}'},
        {"sha256": "0" * 63},
        {"sha256": "../../etc"},
        {"sha256": None},
        {"name": None},
        {"licence": None},
    ],
)
def test_a_converted_file_with_a_wrong_description_is_refused(converted, tmp_path, change):
    checkpoint = read_checkpoint(converted[1])
    metadata = {key: value for key, value in (checkpoint.metadata | change).items() if value is not None}
    write_safetensors(tmp_path / "a.safetensors", checkpoint.arrays, metadata)
    refused(tmp_path / "a.safetensors")


def test_a_converted_file_with_wrong_arrays_is_refused(converted, tmp_path):
    checkpoint = read_checkpoint(converted[1])
    path = tmp_path / "a.safetensors"

    def message(arrays):
        write_safetensors(path, arrays, checkpoint.metadata)
        return refused(path)

    arrays = dict(checkpoint.arrays)
    arrays["conv_hr/bias"] = np.full_like(arrays["conv_hr/bias"], np.inf)
    del arrays["fusion/bias"]
    text = message(arrays | {"x/y": np.zeros(1, np.float32)})
    for part in ("3 errors", "conv_hr/bias: holds NaN", "fusion/bias: missing", "x/y: not part"):
        assert part in text
    assert "not float32" in message(checkpoint.arrays | {"conv_hr/bias": np.zeros(64)})
    assert "damaged" in message(checkpoint.arrays | {"conv_hr/bias/x": np.zeros(64, np.float32)})


def test_control_characters_in_a_converted_file_are_escaped(converted, tmp_path):
    checkpoint = read_checkpoint(converted[1])
    evil = checkpoint.metadata | {"name": "\x1b[2Ja\nb", "licence": "c\rd"}
    write_safetensors(tmp_path / "a.safetensors", checkpoint.arrays, evil)
    weights = load_weights(tmp_path / "a.safetensors")
    assert weights.name == r"\x1b[2Ja\nb"
    assert weights.licence == r"c\rd"


def test_a_file_name_that_is_not_valid_text(tmp_path):
    path = write_pth(tmp_path / "a\udcff.pth", spynet_arrays())
    weights = load_weights(path)
    assert weights.name == r"a\udcff.pth"
    save_weights(tmp_path / "a.safetensors", weights)
    assert json.loads(json.dumps(load_weights(tmp_path / "a.safetensors").name)) == weights.name


@pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("widened", [False, True])
def test_constants_in_half_precision_are_compared_in_that_precision(arrays, tmp_path, half, widened):
    rounded = {name: array.astype(half) for name, array in arrays.items()}
    stored = {name: a.astype(np.float32) for name, a in rounded.items()} if widened else rounded
    write_safetensors(tmp_path / "half.safetensors", stored, {})
    weights = load_weights(tmp_path / "half.safetensors")
    bias = flatten(weights.params)["conv_hr/bias"]
    np.testing.assert_array_equal(bias, rounded["conv_hr.bias"].astype(np.float32))
    wrong = stored["spynet.mean"].copy()
    wrong[0, 1] *= np.asarray(1.02, half)
    write_safetensors(tmp_path / "half.safetensors", stored | {"spynet.mean": wrong}, {})
    assert "spynet.mean: holds other values" in refused(tmp_path / "half.safetensors")


def test_a_converted_file_without_a_checksum_is_reported(converted, tmp_path):
    weights, path = converted
    assert not any("checksum" in note for note in load_weights(path).notes)
    checkpoint = read_checkpoint(path)
    safetensors.numpy.save_file(checkpoint.arrays, tmp_path / "a.safetensors", checkpoint.metadata)
    old = load_weights(tmp_path / "a.safetensors")
    assert any("has no checksum of its content" in note for note in old.notes)
    assert_same(old.params, weights.params)
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    (tmp_path / "b.safetensors").write_bytes(data)
    assert "does not match its checksum" in refused(tmp_path / "b.safetensors")
