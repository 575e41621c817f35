"""An optical flow other than the backbone's own: in samples, records, checkpoints and exports."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.common import base, finish
from ldip_jax.data.clips import SamplingSpec, draw_sample
from ldip_jax.data.records import record_provenance, save_record
from ldip_jax.errors import InputError
from ldip_jax.inference.model import load_model
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.networks import BACKBONES
from ldip_jax.models.networks.gmflow import OneWayGMFlow
from ldip_jax.models.networks.spynet import SPyNet
from ldip_jax.models.trainable import quick_jit
from ldip_jax.training import frozen, setup
from ldip_jax.training import record_making as records
from ldip_jax.training.frozen import frozen_networks
from ldip_jax.training.record_making import check_records, network_provenance
from ldip_jax.training.setup import Run, make_run
from ldip_jax.weights.export import read_export
from ldip_jax.weights.flow import load_flow
from ldip_jax.weights.load import load_weights, save_weights
from tests.data.footage import Coordinates
from tests.data.record import random_record
from tests.networks import random_backbone, random_like, write_flow
from tests.published import published_params


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    return write_flow(tmp_path_factory.mktemp("flow") / "flow.pth")


@pytest.fixture
def config():
    return finish(base(), "debug")


def run_with(flow):
    backbone = random_backbone(1)
    net = LDIP(BACKBONES[backbone.network](**backbone.config))
    return Run(net, backbone, {"backbone": backbone.params}, {}, {}, load_flow(flow))


def test_hrip_follows_the_flow_in_samples_but_the_backbone_does_not(config, flow, monkeypatch):
    config.data.dataset = "reds"
    requested = []
    monkeypatch.setattr(frozen, "load_matcher", lambda *args, flow: requested.append(flow))
    spec = SamplingSpec(context_frames=3, target_frames=3, max_key_frames=1, max_references=0)
    clip = draw_sample(spec, Coordinates((32, 40), 3), np.random.default_rng(0))
    own, other = (frozen_networks(config, run_with(name))(clip) for name in ("spynet", flow))
    np.testing.assert_array_equal(own.features, other.features)
    params = load_weights(flow).params
    frames = jnp.asarray(clip.lr, jnp.float32) / 255.0
    expected = np.asarray(quick_jit(SPyNet().apply)({"params": params}, frames[:-1], frames[1:]))
    np.testing.assert_allclose(other.to_next[:2], expected, atol=1e-4)
    assert np.abs(own.to_next[:2] - expected).max() > 0.2
    assert not other.to_next[2].any()
    assert not other.to_previous[0].any()
    assert other.to_previous[1:].any()
    # The matcher "flow" uses the flow too.
    assert requested[0] is None
    assert requested[1][0] == SPyNet()


def test_records_name_the_flow_and_are_refused_with_another(flow, tmp_path):
    record = random_record(np.random.default_rng(0), (8, 8))
    own, other = run_with("spynet"), run_with(flow)
    save_record(tmp_path / "a.safetensors", record, network_provenance(other))
    assert record_provenance(tmp_path / "a.safetensors")["flow"] == "flow.pth"
    assert check_records(tmp_path, other, "")
    with pytest.raises(InputError, match=r"made with the optical flow flow\.pth, not spynet; prepare"):
        check_records(tmp_path, own, "")
    # Records that were made before the flow could be chosen.
    save_record(tmp_path / "a.safetensors", record, {"backbone_sha256": own.backbone.sha256})
    assert check_records(tmp_path, own, "")
    with pytest.raises(InputError, match=r"made with the optical flow spynet, not flow\.pth"):
        check_records(tmp_path, other, "")


def test_records_are_made_with_the_flow_and_not_mixed(config, flow, tmp_path, monkeypatch):
    record = random_record(np.random.default_rng(0), (8, 8))
    backbone = random_backbone(1)
    monkeypatch.setattr(records, "frozen_backbone", lambda name, folder: backbone)
    monkeypatch.setattr(records, "frozen_networks", lambda config, run: lambda clip: record)
    records.make_records(config, tmp_path, 1)
    config.flow = str(flow)
    with pytest.raises(InputError, match=r"made with the optical flow spynet, not flow\.pth.*--output"):
        records.make_records(config, tmp_path, 2)
    records.make_records(config, tmp_path / "other", 1)
    found = record_provenance(tmp_path / "other" / "000000.safetensors")
    assert found["flow_sha256"] == load_weights(flow).sha256


def test_checkpoints_and_exports_name_the_flow_and_inference_uses_it(config, flow, tmp_path, monkeypatch):
    backbone = random_backbone(1)
    save_weights(tmp_path / "backbone.safetensors", backbone)
    monkeypatch.setattr(setup, "frozen_backbone", lambda *args: backbone)
    # Any parameters will do, and drawing them takes a compilation.
    shaped = lambda init, key: random_like(jax.eval_shape(init, key), np.random.default_rng(0))  # noqa: E731
    monkeypatch.setattr(setup, "initialise", shaped)
    config.flow = str(flow)
    run = make_run(config, tmp_path)
    assert run.frozen_sha256()["flow"] == load_weights(flow).sha256
    path = tmp_path / "export.safetensors"
    run.export(path, run.params, {})
    assert read_export(path).config["flow"] == {"name": "flow.pth", "sha256": load_weights(flow).sha256}
    model = load_model(str(tmp_path / "backbone.safetensors"), str(path), native=True, flow=flow)
    assert model.net.flow_net == SPyNet()
    assert model.notes == []
    config.flow = "nowhere.pth"
    with pytest.raises(InputError, match=r"nowhere\.pth"):
        make_run(config, tmp_path)


@pytest.fixture(scope="session")
def gmflow():
    return published_params("gmflow")


def test_gmflow_finds_a_shift_between_small_frames(gmflow, rng):
    noise = jax.image.resize(rng.uniform(0, 1, (1, 18, 26, 3)).astype(np.float32), (1, 72, 104, 3), "cubic")
    image = jnp.clip(noise, 0.0, 1.0)
    # The network enlarges them to 512 pixels along the longer side: low frames are computed quickly.
    # The network enlarges them to 512 pixels along the longer side: low frames are computed quickly.
    ref, supp = image[:, 4:20, 4:100], image[:, 6:22, 1:97]
    found = quick_jit(OneWayGMFlow().apply)({"params": gmflow}, ref, supp)
    assert found.shape == (1, 16, 96, 2)
    # What is at x in `ref` is at x + (3, -2) in `supp`.
    error = np.abs(np.asarray(found)[0, 4:-4, 8:-8] - [3.0, -2.0])
    assert np.median(error) < 0.2
