"""Every config loads, with every argument, and builds at full size; nothing is computed."""

import importlib
from functools import cache, partial
from pathlib import Path

import jax
import numpy as np
import pytest

from ldip_jax.training import setup
from ldip_jax.training.config import crop_spec, step_options
from ldip_jax.training.optimizer import make_optimizer
from ldip_jax.training.state import start_state
from ldip_jax.training.step import train_step
from ldip_jax.weights.identify import NETWORKS
from ldip_jax.weights.load import Weights
from tests.training.batches import abstract_batch

CONFIGS = sorted(
    path.stem for path in (Path(__file__).parents[2] / "configs").glob("*.py") if path.stem != "common"
)


def load(name, arg=""):
    return importlib.import_module(f"configs.{name}").get_config(arg)


@cache
def traced(init, *modules):
    """The shapes of initial parameters; most configs have the same modules, and tracing takes a second."""
    return jax.eval_shape(partial(init, *modules), jax.random.key(0))


@pytest.fixture
def no_values(monkeypatch):
    """Backbones with their published shapes, and initial parameters, without values."""

    def shapes(name, workdir, progress=print):
        network = NETWORKS[name.partition("-")[0].removesuffix(".pth")]
        config = network.config({})
        zeros = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float32), network.skeleton(config)
        )
        return Weights(name, network.name, config, zeros, "0" * 64, "", [])

    monkeypatch.setattr(setup, "frozen_backbone", shapes)
    monkeypatch.setattr(setup, "initialise", lambda init, key: traced(init.func, *init.args))


def test_all_configs_exist():
    assert set(CONFIGS) >= {
        *("ldip_basicvsrpp_x4", "ldip_iart_x4", "as_basicvsrpp", "as_iart", "ldip_basicvsrpp_as"),
        *("ldip_iart_as", "ldip_basicvsr_x4", "as_basicvsr", "ldip_basicvsr_as"),
    }


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "mrefsr_x4"])
@pytest.mark.usefixtures("no_values")
def test_a_config_builds_at_full_size(name):
    config = load(name)
    config.init_from = ""
    run = setup.make_run(config, "runs/none")
    optimizer, spec = make_optimizer(config), crop_spec(config)
    state = jax.eval_shape(lambda p: start_state(p, optimizer, ema=config.ema > 0), run.params)
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert count == (2_098_240 if config.trains == ("lrrf",) else 157_248 + 38_659)
    channels = run.backbone.config["mid_channels"]
    step = partial(train_step, run.net, optimizer, step_options(config))
    for scale in {config.data.scale[0], config.data.scale[1]}:
        batch = abstract_batch(spec, scale, config.batch_size, channels)
        new, metrics = jax.eval_shape(step, state, run.frozen, batch)
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), new) == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), state
        )
        assert set(metrics) == {"loss", "grad_norm", "skipped"}


@pytest.mark.parametrize("name", CONFIGS)
def test_debug_needs_neither_weights_nor_a_data_set(name):
    config = load(name, "debug")
    assert config.backbone == "seeded"
    assert config.data.dataset == "synthetic"
    assert not config.init_from
    assert load(name, "debug,cross").lrrf.attention == "cross"
    with pytest.raises(ValueError, match="unknown config argument"):
        load(name, "debgu")
