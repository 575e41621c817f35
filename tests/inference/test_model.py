"""Which sizes, weights and modules a request leads to."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.inference import model as module
from ldip_jax.inference.model import load_model, output_size
from ldip_jax.weights import export as exports
from ldip_jax.weights.export import load_export, read_export, save_export
from ldip_jax.weights.load import load_weights


@pytest.mark.parametrize(
    ("size", "scale", "out"),
    [
        ((12, 16), None, (48, 64)),
        ((12, 16), 1.0, (12, 16)),
        ((12, 16), 8.0, (96, 128)),
        ((12, 17), 2.5, (30, 42)),
        ((13, 17), 3.0, (39, 51)),
        ((9, 7), 1.1, (10, 8)),
        ((1, 1), 1.0, (1, 1)),
    ],
)
def test_a_scale_gives_the_rounded_size(size, scale, out):
    assert output_size(size, scale, None) == out
    # A size that is computed from a scale is always a valid size.
    assert output_size(size, None, out) == out


def test_every_scale_gives_a_valid_size(rng):
    for scale in rng.uniform(1, 8, 500):
        size = tuple(rng.integers(1, 50, 2).tolist())
        out = output_size(size, scale, None)
        assert output_size(size, None, out) == out


@pytest.mark.parametrize("scale", [0.0, -4.0, 0.999, 8.001, np.nan, np.inf, -np.inf])
def test_scales_out_of_range_are_refused(scale):
    with pytest.raises(InputError, match=r"^scale .*: it must be between 1 and 8$"):
        output_size((12, 16), scale, None)


@pytest.mark.parametrize("out", [(11, 16), (12, 15), (97, 128), (96, 129), (0, 64)])
def test_sizes_out_of_range_on_either_axis_are_refused(out):
    with pytest.raises(InputError, match=rf"^size {out[1]}x{out[0]}: .* of 16x12; both must be"):
        output_size((12, 16), None, out)


def load(backbone, lrrf, native=True, stills=True):
    return load_model(str(backbone), str(lrrf), native=native, has_stills=stills)


def test_running_only_the_backbone_is_reported_unless_requested(networks):
    model = load(networks.backbone, "default")
    assert not model.refined
    assert model.export is None
    (note,) = model.notes
    assert "only the backbone runs" in note
    assert load(networks.backbone, "none").notes == []


def test_a_scale_that_the_weights_were_not_trained_for_is_reported(networks):
    (note,) = load(networks.backbone, "none", native=False).notes
    assert "trained for x4" in note
    assert load(networks.wide, networks.head, native=False).notes == []


def test_an_export_adds_its_components(networks):
    model = load(networks.backbone, networks.trained)
    assert (model.refined, model.arbitrary) == (True, False)
    assert model.title == f"{model.backbone.name} with LRRF"
    assert model.net.lrrf.feature_scale == 0.5
    assert set(model.params) == {"backbone", "lrrf"}
    model = load(networks.wide, networks.head)
    assert (model.refined, model.arbitrary) == (False, True)
    assert model.title == f"{model.backbone.name} with the arbitrary-scale head"
    assert set(model.params) == {"backbone", "as_head", "as_decoder"}


def test_shipped_weights_are_loaded_by_name(networks, monkeypatch, tmp_path):
    monkeypatch.setattr(exports, "SHIPPED", tmp_path)
    shutil.copy(networks.trained, tmp_path / "net-x4.safetensors")
    assert load(networks.backbone, "net-x4", native=True).refined
    with pytest.raises(
        InputError, match="net-x5: no such file of LRRF weights; give default, none, net-x4, or"
    ):
        load(networks.backbone, "net-x5")


def test_weights_that_gain_only_from_stills_are_not_used_without_stills(networks, monkeypatch, tmp_path):
    monkeypatch.setattr(exports, "SHIPPED", tmp_path)
    backbone = load_weights(networks.backbone).name
    export = read_export(networks.trained)
    path = tmp_path / f"{backbone}-x4.safetensors"
    save_export(path, replace(export, provenance={"use": "with stills"}))
    assert load(networks.backbone, "default", stills=True).refined
    backbone_only = load(networks.backbone, "default", stills=False)
    assert not backbone_only.refined
    assert f"--lrrf {path.stem} runs LRRF" in backbone_only.notes[0]
    assert load(networks.backbone, path.stem, stills=False).refined
    save_export(tmp_path / f"{backbone}-x4-self.safetensors", export)
    (note,) = load(networks.backbone, "default", stills=False).notes
    assert f"--lrrf {backbone}-x4-self runs LRRF" in note
    save_export(path, export)
    assert load(networks.backbone, "default", stills=False).refined


def test_other_scales_use_the_x4_weights_by_default(networks, monkeypatch):
    monkeypatch.setattr(module, "shipped_export", lambda _, kind: {"x4": networks.trained}[kind])
    model = load(networks.backbone, "default", native=False)
    assert model.refined
    assert not model.arbitrary
    assert "then resized" in model.notes[0]


def test_an_export_for_another_backbone_is_refused(networks):
    with pytest.raises(InputError, match=rf"^{re.escape(str(networks.trained))}: made for the backbone"):
        load(networks.other, networks.trained)


def test_missing_lrrf_weights_are_reported_before_the_backbone_is_fetched(monkeypatch):
    def fetch(*args, **kwargs):
        raise AssertionError("fetched")

    monkeypatch.setattr(module, "load_weights", fetch)
    with pytest.raises(InputError, match=r"^nowhere\.safetensors: no such file"):
        load("basicvsr-reds4", "nowhere.safetensors")
    with pytest.raises(InputError, match=r"^lrrf-of-tomorrow: no such file"):
        load("basicvsr-reds4", "lrrf-of-tomorrow")


def test_a_backbone_is_refused_as_lrrf_and_an_export_as_backbone(networks):
    with pytest.raises(InputError, match="not an LRRF export"):
        load(networks.backbone, networks.backbone)
    with pytest.raises(InputError, match="give it as --lrrf"):
        load(networks.trained, "none")


@pytest.mark.parametrize(
    "config",
    [
        {"lrrf": {"feature_scale": 0.5, "wings": 2}},
        {"lrrf": {"feature_scale": 0.5}, "hook": "elsewhere"},
        {"lrrf": {"attention": "telepathic"}},
        {"lrrf": ["feature_scale"]},
        {"lrrf": {"feature_scale": "large"}},
    ],
)
def test_a_config_of_another_version_is_refused_in_one_line(networks, tmp_path, config):
    export = read_export(networks.untrained)
    save_export(tmp_path / "odd.safetensors", replace(export, config=config))
    with pytest.raises(InputError, match=r"odd\.safetensors: its config .*") as caught:
        load_export(tmp_path / "odd.safetensors", backbone=load_weights(networks.backbone))
    assert "\n" not in str(caught.value)
