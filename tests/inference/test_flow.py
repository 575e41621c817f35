"""An optical flow for LRRF other than the backbone's."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.inference import model as inference_model
from ldip_jax.inference.engine import refined_frames
from ldip_jax.inference.model import load_model
from ldip_jax.inference.programs import Programs
from ldip_jax.inference.streaming import WindowFeatures
from ldip_jax.matching.loading import load_matcher
from ldip_jax.matching.matcher import Pair
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.networks.spynet import SPyNet
from ldip_jax.models.trainable import quick_jit
from ldip_jax.weights.catalogue import CATALOGUE
from ldip_jax.weights.export import read_export, save_export
from ldip_jax.weights.flow import flow_identity
from ldip_jax.weights.load import load_weights
from tests.networks import LR, write_flow

COUNT = 3


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    return write_flow(tmp_path_factory.mktemp("flow") / "flow.pth")


@pytest.fixture(scope="module")
def model(networks, flow):
    return load_model(str(networks.backbone), str(networks.trained), native=True, flow=flow)


def test_only_lrrf_follows_the_flow(networks, model, flow, monkeypatch):
    frames = np.random.default_rng(3).uniform(0, 1, (COUNT, *LR, 3)).astype(np.float32)
    programs = Programs(model.net, model.params)
    window = WindowFeatures(programs, list(frames), lambda _: None)
    own = Programs(load_model(str(networks.backbone), "none", native=True).net, model.params)
    backbone = WindowFeatures(own, list(frames), lambda _: None)
    np.testing.assert_array_equal(window.flow(0, 1), backbone.flow(0, 1))
    np.testing.assert_array_equal(window.features[2], backbone.features[2])
    expected = jax.jit(SPyNet().apply)({"params": load_weights(flow).params}, *window.frames[:2])
    np.testing.assert_allclose(window.detail_flow(0, 1), expected, atol=1e-5)
    np.testing.assert_array_equal(window.detail_flow(0, -1), np.zeros((1, *LR, 2)))
    assert np.abs(window.detail_flow(0, 1) - window.flow(0, 1)).max() > 0.2

    followed = []
    programs.propagate = lambda reverse, current, previous, flow, grid: followed.append(flow) or current
    whole = range(COUNT)
    list(refined_frames(programs, window, whole, whole, lambda _: [], (), lambda _: None))
    pairs = [(2, 3), (1, 2), (0, 1), (0, -1), (1, 0), (2, 1)]
    for flow, (here, there) in zip(followed, pairs, strict=True):
        np.testing.assert_array_equal(flow, window.detail_flow(here, there))
    # The same in one program; three channels pass for an image.
    three = lambda self, features, flows, *_, **__: jnp.concatenate(flows, axis=-1)[..., 1:]  # noqa: E731
    monkeypatch.setattr(LDIP, "restore", three)
    whole = quick_jit(model.net.apply)({"params": model.params}, frames[None])
    np.testing.assert_allclose(whole[:, 1, ..., 0], window.detail_flow(1, 2)[..., 1], atol=1e-5)
    np.testing.assert_allclose(whole[:, 1, ..., 1:], window.detail_flow(1, 0), atol=1e-5)


def test_the_flow_matcher_uses_the_flow(model, rng):
    matcher = load_matcher("flow", {}, flow=(model.net.flow_net, model.params["flow_net"]))
    image = rng.uniform(0, 1, (1, 16, 24, 3)).astype(np.float32)
    warp = matcher.coarse(Pair(image, image)).warp
    y, x = np.mgrid[:16, :24]
    moved = warp[0] - np.stack([x, y], -1)
    assert moved[..., 0].mean() > 0.1
    assert moved[..., 1].mean() < -0.1


def test_without_lrrf_the_flow_is_not_loaded(networks):
    model = load_model(str(networks.backbone), "none", native=True, flow="raft-large")
    assert model.net.flow_net is None
    assert any("raft-large: ignored" in note for note in model.notes)
    with pytest.raises(InputError, match=r"nowhere\.pth: neither a file nor a name"):
        load_model(str(networks.backbone), "none", native=True, flow="nowhere.pth")


def test_the_flow_of_training_is_the_default_and_a_mismatch_is_reported(
    networks, flow, tmp_path, monkeypatch
):
    trained = read_export(networks.trained)
    paths = {}
    for name, identity in {
        "file": flow_identity(load_weights(flow)),
        "raft-small": {"name": "other.pth", "sha256": CATALOGUE["raft-small"].sha256.ljust(64, "0")},
    }.items():
        paths[name] = tmp_path / f"{name}.safetensors"
        save_export(paths[name], replace(trained, config={**trained.config, "flow": identity}))

    def load(lrrf, flow=None):
        model = load_model(str(networks.backbone), str(lrrf), native=True, flow=flow)
        return model.net.flow_net, model.notes

    assert load(networks.trained) == (None, [])
    assert load(paths["file"], flow) == (SPyNet(), [])
    net, (note,) = load(paths["file"])
    assert net is None
    assert note == (
        "LRRF was trained with the optical flow flow.pth, and follows spynet; give the file as --flow"
    )
    net, (note,) = load(networks.trained, flow)
    assert net == SPyNet()
    assert note == "LRRF was trained with the optical flow spynet, and follows flow.pth"
    # Weights with a name are fetched by it, whatever the file was called.
    requested = []
    monkeypatch.setattr(inference_model, "load_flow", lambda name, progress: requested.append(name))
    load(paths["raft-small"])
    assert requested == ["raft-small"]


def test_weights_of_other_networks_are_refused(networks):
    with pytest.raises(InputError, match=r"weights of SPyNet or .*RAFT are needed"):
        load_model(str(networks.backbone), str(networks.trained), native=True, flow=networks.other)
