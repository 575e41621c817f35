"""What a run starts from: exports of its components, the backbone's own decoder."""

import importlib
from dataclasses import replace

import jax
import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.training.setup import frozen_backbone, make_run
from ldip_jax.weights.export import load_export, save_export
from ldip_jax.weights.load import load_weights
from tests.networks import Networks, random_export, write_networks


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Networks:
    """Files of networks with random weights."""
    return write_networks(tmp_path_factory.mktemp("networks"))


def training_config(name, networks, **fields):
    config = importlib.import_module(f"configs.{name}").get_config("debug")
    return replace(config, backbone=str(networks.wide), **fields)


def test_the_decoder_starts_as_that_of_the_backbone(networks, tmp_path):
    run = make_run(training_config("as_basicvsr", networks), tmp_path)
    for name, layer in run.params["as_decoder"].items():
        jax.tree.map(np.testing.assert_array_equal, layer, run.backbone.params[name])
    plain = make_run(training_config("as_basicvsr", networks, decoder_start="plain"), tmp_path)
    kernels = [r.params["as_decoder"]["conv_last"]["kernel"] for r in (run, plain)]
    assert np.any(kernels[0] != kernels[1])
    # A trained decoder is kept as it is, and is not silently replaced.
    started = {"init_from": str(networks.head), "decoder_start": "plain"}
    trained = make_run(training_config("as_basicvsr", networks, **started), tmp_path).params["as_decoder"]
    head = load_export(networks.head, backbone=run.backbone).groups["as_decoder"]
    jax.tree.map(np.testing.assert_array_equal, dict(trained), head)
    with pytest.raises(InputError, match="decoder_start=backbone: the decoder is trained already"):
        make_run(training_config("as_basicvsr", networks, init_from=str(networks.head)), tmp_path)


def test_components_of_several_exports(networks, tmp_path):
    lrrf = random_export(load_weights(networks.wide))
    save_export(tmp_path / "lrrf.safetensors", lrrf)
    both = f"{networks.head},{tmp_path / 'lrrf.safetensors'}"
    run = make_run(training_config("ldip_basicvsr_as", networks, init_from=both), tmp_path)
    jax.tree.map(np.testing.assert_array_equal, dict(run.params["lrrf"]), lrrf.groups["lrrf"])
    head = load_export(networks.head, backbone=run.backbone)
    assert set(run.frozen) == {"backbone", "as_head", "as_decoder"}
    jax.tree.map(np.testing.assert_array_equal, dict(run.frozen["as_head"]), head.groups["as_head"])
    with pytest.raises(InputError, match="has as_decoder, as_head a second time; name one export for each"):
        make_run(training_config("ldip_basicvsr_as", networks, init_from=f"{networks.head},{both}"), tmp_path)


def test_a_seeded_backbone_is_created_once(tmp_path):
    file = tmp_path / "run" / "backbone.safetensors"
    first = frozen_backbone("seeded", file.parent)
    written = file.stat().st_mtime_ns
    again = frozen_backbone("seeded", file.parent)
    assert file.stat().st_mtime_ns == written
    assert first.sha256 == again.sha256
    assert first.config == {"mid_channels": 64, "num_blocks": 1}
    with pytest.raises(InputError, match="cannot be created"):
        frozen_backbone("seeded", file / "below")
