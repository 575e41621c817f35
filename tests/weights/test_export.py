"""LRRF exports: written and read back, bound to one backbone, and every way in which one can be wrong."""

import dataclasses
import json
import os
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from ldip_jax.errors import InputError
from ldip_jax.weights import export as exports
from ldip_jax.weights.export import Export, is_export, load_export, read_export, save_export, shipped_export
from ldip_jax.weights.formats import read_checkpoint, write_safetensors
from ldip_jax.weights.load import Weights, load_weights, save_weights
from ldip_jax.weights.rules import flatten, nest
from tests.networks import random_backbone, random_export

BACKBONE = Weights("net", "basicvsr", {"mid_channels": 8, "num_blocks": 1}, {}, "ab" * 32, "none", [])
HEAD = ("as_head", "as_decoder")


@pytest.fixture(scope="module")
def head():
    export = random_export(BACKBONE, HEAD)
    return dataclasses.replace(export, provenance={"data": "none", "steps": "3"})


@pytest.fixture(scope="module")
def backbone():
    return random_backbone(1)


@pytest.fixture(scope="module")
def parts(head, tmp_path_factory):
    """Arrays and metadata of an export's file."""
    path = tmp_path_factory.mktemp("export") / "a.safetensors"
    save_export(path, head)
    checkpoint = read_checkpoint(path)
    return checkpoint.arrays, checkpoint.metadata


def refused(path, arrays, metadata):
    """The error of `load_export` for a file of these."""
    write_safetensors(path, arrays, {key: value for key, value in metadata.items() if value is not None})
    with pytest.raises(InputError) as caught:
        load_export(path, backbone=BACKBONE)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_float32_is_restored_bit_for_bit(head, tmp_path):
    path = tmp_path / "a.safetensors"
    save_export(path, head)
    assert os.listdir(tmp_path) == ["a.safetensors"]
    loaded = load_export(path, backbone=BACKBONE)
    assert loaded.config == head.config
    assert loaded.provenance == head.provenance
    assert (loaded.backbone, loaded.backbone_sha256) == ("net", "ab" * 32)
    assert set(loaded.groups) == set(HEAD)
    for name, leaf in flatten(head.groups).items():
        np.testing.assert_array_equal(flatten(loaded.groups)[name], leaf)


def test_the_file_is_as_documented(head, tmp_path):
    save_export(tmp_path / "a.safetensors", head)
    with safetensors.safe_open(tmp_path / "a.safetensors", "numpy") as file:
        metadata, names = file.metadata(), set(file.keys())
    assert metadata["format"] == "ldip-1"
    assert json.loads(metadata["config"]) == head.config
    assert metadata["backbone_sha256"] == "ab" * 32
    assert names == set(flatten(head.groups))
    assert {name.partition("/")[0] for name in names} == set(HEAD)


def test_bfloat16_is_half_the_size_and_rounded_once(head, tmp_path):
    save_export(tmp_path / "a", head)
    save_export(tmp_path / "b", head, "bfloat16")
    assert (tmp_path / "b").stat().st_size < 0.6 * (tmp_path / "a").stat().st_size
    loaded = flatten(load_export(tmp_path / "b", backbone=BACKBONE).groups)
    for name, leaf in flatten(head.groups).items():
        assert loaded[name].dtype == np.float32
        np.testing.assert_array_equal(loaded[name], leaf.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_the_whole_lrrf(tmp_path):
    export = random_export(BACKBONE)
    save_export(tmp_path / "a", export)
    loaded = load_export(tmp_path / "a", backbone=BACKBONE)
    assert sum(leaf.size for leaf in jax.tree.leaves(loaded.groups)) == 2_098_240
    assert loaded.config == {"lrrf": {"feature_scale": 0.5}}


@pytest.mark.parametrize(
    ("config", "propagation", "reach"),
    [
        ({}, "hrip", 2),
        ({"propagation": "carry"}, "carry", 0),
        ({"propagation": "both"}, "both", 0),
        ({"propagation": "carry", "hrip_reach": 3}, "carry", 3),
        ({"hrip_reach": 0}, "hrip", 0),
    ],
)
def test_the_propagation_is_restored(head, tmp_path, config, propagation, reach):
    """Files from before there was a choice mean HRIP, and their detail is complete only after it."""
    save_export(tmp_path / "a", dataclasses.replace(head, config=config))
    loaded = load_export(tmp_path / "a", backbone=BACKBONE)
    assert loaded.config == config
    assert (loaded.propagation, loaded.hrip_reach) == (propagation, reach)


def test_device_arrays_and_odd_memory_layouts(head, tmp_path):
    def moved(leaf):
        return np.asfortranarray(leaf) if leaf.ndim > 1 else jax.device_put(leaf)

    save_export(tmp_path / "a", dataclasses.replace(head, groups=jax.tree.map(moved, head.groups)))
    loaded = flatten(load_export(tmp_path / "a", backbone=BACKBONE).groups)
    for name, leaf in flatten(head.groups).items():
        np.testing.assert_array_equal(loaded[name], leaf)


def test_unknown_groups_are_not_written(head, tmp_path):
    with pytest.raises(ValueError, match="extra"):
        save_export(tmp_path / "a", dataclasses.replace(head, groups={**head.groups, "extra": {}}))
    assert os.listdir(tmp_path) == []


def test_another_backbone_is_refused(head, tmp_path):
    save_export(tmp_path / "a", head)
    other = dataclasses.replace(BACKBONE, name="other", sha256="cd" * 32)
    with pytest.raises(
        InputError, match=r"made for the backbone net \(sha256 abababab\), not for other"
    ) as caught:
        load_export(tmp_path / "a", backbone=other)
    assert "--backbone" in str(caught.value)


def test_a_converted_backbone_still_fits(head, backbone, tmp_path):
    """The sha256 of the original file stays with it through conversion."""
    original = dataclasses.replace(backbone, sha256="12" * 32)
    save_weights(tmp_path / "converted.safetensors", original)
    save_export(tmp_path / "a", dataclasses.replace(head, backbone_sha256="12" * 32))
    load_export(tmp_path / "a", backbone=load_weights(tmp_path / "converted.safetensors"))


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"format": "ldip-2"}, "not an LRRF export"),
        ({"format": None}, "not an LRRF export"),
        ({"config": None}, "config"),
        ({"config": "{"}, "damaged"),
        ({"config": "3"}, "description"),
        ({"config": "[" * 100_000}, "damaged"),
        ({"config": '{"as_head": {"new_field": 1}}'}, "unknown to this version"),
        ({"config": '{"as_head": 3}'}, "damaged"),
        ({"config": '{"as_head": {"name": "x"}}'}, "as_head.name, unknown to this version"),
        ({"config": '{"lrrf": {"parent": null}}'}, "lrrf.parent, unknown to this version"),
        ({"config": '{"lrrf": {"feature_scale": NaN}}'}, "NaN in its config"),
        ({"config": '{"tail": {}}'}, "tail, unknown to this version"),
        ({"config": '{"as_head": {"band_pixels": 5}}'}, "unknown to this version"),
        ({"config": '{"as_head": {"growth": "wide"}}'}, "unknown to this version"),
        ({"config": '{"as_head": {"pixel_size": false}}'}, "expected"),
        ({"config": '{"hook": "elsewhere"}'}, "hook"),
        ({"config": '{"hook": []}'}, "hook"),
        ({"config": '{"flow": "raft-small"}'}, "damaged"),
        ({"config": '{"flow": {"name": "raft-small"}}'}, "damaged"),
        ({"config": '{"flow": {"name": 3, "sha256": "%s"}}' % ("0" * 64)}, "flow in its config"),
        ({"config": '{"flow": {"name": "raft-small", "sha256": ""}}'}, "flow in its config"),
        ({"config": '{"flow": {"name": "raft-small", "sha256": 3}}'}, "damaged"),
        ({"config": '{"propagation": "teleport"}'}, "its propagation teleport is unknown to this version"),
        ({"config": r'{"propagation": "\u001b[2J"}'}, r"its propagation \x1b[2J is unknown"),
        ({"config": '{"propagation": null}'}, "its propagation None is unknown"),
        ({"config": '{"propagation": ["carry"]}'}, "unknown to this version"),
        ({"config": '{"hrip_reach": -1}'}, "hrip_reach"),
        ({"config": '{"hrip_reach": true}'}, "hrip_reach"),
        ({"config": '{"hrip_reach": "2"}'}, "hrip_reach"),
        ({"config": '{"hrip_reach": 2.0}'}, "hrip_reach"),
        ({"config": '{"hrip_reach": 1000000000}'}, "hrip_reach"),
        ({"backbone": None}, "backbone"),
        ({"backbone_sha256": None}, "backbone_sha256"),
        ({"backbone_sha256": "ab"}, "description"),
        ({"backbone_sha256": "\x1b[2J" * 16}, "description"),
        ({"backbone": "\x1b[2J", "backbone_sha256": "00" * 32}, r"\x1b[2J"),
    ],
)
def test_a_wrong_description_is_refused(parts, tmp_path, change, hint):
    arrays, metadata = parts
    assert hint in refused(tmp_path / "a", arrays, metadata | change)


def test_all_wrong_arrays_are_reported_at_once(parts, tmp_path):
    arrays, metadata = parts
    names = sorted(arrays)
    wrong = dict(arrays)
    wrong[names[0]] = np.full_like(arrays[names[0]], np.nan)
    wrong[names[1]] = arrays[names[1]][..., :1]
    del wrong[names[2]]
    wrong["as_head/extra/kernel"] = np.ones(3, np.float32)
    message = refused(tmp_path / "a", wrong, metadata)
    for part in (
        "4 errors",
        f"{names[0]}: holds NaN or infinity",
        f"{names[1]}: shape",
        f"{names[2]}: missing",
        "as_head/extra/kernel: not part of this network",
    ):
        assert part in message


def test_wrong_groups_are_refused(parts, tmp_path):
    arrays, metadata = parts
    one = {name: array for name, array in arrays.items() if name.startswith("as_head")}
    assert "without the other" in refused(tmp_path / "a", one, metadata)
    assert "holds tail, unknown" in refused(
        tmp_path / "a", arrays | {"tail/x": np.ones(1, np.float32)}, metadata
    )
    assert "missing" in refused(tmp_path / "a", arrays | {"lrrf": np.ones(1, np.float32)}, metadata)
    assert "not float32" in refused(tmp_path / "a", arrays | {"lrrf/x": np.ones(1, np.int32)}, metadata)
    twice = arrays | {f"{sorted(arrays)[0]}/x": np.ones(1, np.float32)}
    assert "damaged" in refused(tmp_path / "a", twice, metadata)


def test_truncated_empty_and_missing_files_are_refused(head, tmp_path):
    save_export(tmp_path / "whole", head)
    data = (tmp_path / "whole").read_bytes()
    for length in (0, 7, 9, 200, len(data) // 2, len(data) - 1):
        (tmp_path / "a").write_bytes(data[:length])
        with pytest.raises(InputError, match=r"damaged|empty|not a checkpoint"):
            load_export(tmp_path / "a", backbone=BACKBONE)
    with pytest.raises(InputError, match="no such file"):
        load_export(tmp_path / "none", backbone=BACKBONE)
    np.savez(tmp_path / "b.npz", **flatten(head.groups))
    with pytest.raises(InputError, match="not an LRRF export"):
        load_export(tmp_path / "b.npz", backbone=BACKBONE)


def test_an_export_is_refused_as_backbone_and_a_backbone_as_export(head, backbone, tmp_path):
    save_export(tmp_path / "export", head)
    save_weights(tmp_path / "backbone", backbone)
    assert is_export(tmp_path / "export")
    assert not is_export(tmp_path / "backbone")
    assert not is_export(tmp_path / "none")
    with pytest.raises(InputError, match="give it as --lrrf"):
        load_weights(tmp_path / "export")
    with pytest.raises(InputError, match="not an LRRF export"):
        read_export(tmp_path / "backbone")


def test_a_failed_write_keeps_the_old_export(head, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_export(path, head)
    before = path.read_bytes()

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        save_export(path, head, "bfloat16")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_shipped_exports_are_found_by_backbone_and_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "SHIPPED", tmp_path)
    assert shipped_export("net", "x4") is None
    (tmp_path / "net-x4.safetensors").write_bytes(b"")
    assert shipped_export("net", "x4") == tmp_path / "net-x4.safetensors"
    assert shipped_export("net", "as") is None


def test_a_shipped_export_is_found_by_name_and_anything_else_is_a_path(tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "SHIPPED", tmp_path)
    (tmp_path / "net-x4.safetensors").write_bytes(b"")
    assert exports.shipped_names() == ["net-x4"]
    assert exports.export_file("net-x4") == tmp_path / "net-x4.safetensors"
    assert exports.export_file("net-x4.safetensors") == Path("net-x4.safetensors")


def test_shipped_exports_can_be_read():
    names = exports.shipped_names()
    assert {"basicvsr-reds4-x4", "basicvsr-vimeo-bi-x4"} <= set(names)
    for name in names:
        export = read_export(exports.export_file(name))
        assert name.startswith(export.backbone)
        assert isinstance(export, Export)
        assert nest(flatten(export.groups)).keys() <= set(exports.GROUPS)


def test_shipped_lrrf_for_any_scale_contains_the_shipped_head():
    whole, head = (read_export(exports.export_file(f"basicvsr-reds4-{kind}")) for kind in ("as", "as-head"))
    assert set(whole.groups) == {"as_head", "as_decoder", "lrrf"}
    assert whole.gains_only_from_stills
    for component, tree in head.groups.items():
        jax.tree.map(np.testing.assert_array_equal, whole.groups[component], tree)
