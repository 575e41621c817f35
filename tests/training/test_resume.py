"""A run that is killed and resumed ends with the same result as one that was never stopped, bit for bit."""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import jax
import numpy as np

from configs.ldip_basicvsr_x4 import get_config
from ldip_jax.training.loop import train
from ldip_jax.training.setup import frozen_backbone
from ldip_jax.weights.export import load_export
from tests.compilation import hardly_optimised
from tests.networks import write_networks
from tests.training import tiny_run
from tests.training.kill_and_resume import Trials, assert_same, train_tiny

STEPS, STEP_SECONDS = 8, 0.1


def test_a_run_killed_at_random_moments_is_resumed(tmp_path):
    assert tiny_run.run(tmp_path / "reference", STEPS) == 0
    trials = Trials(train_tiny, STEPS, STEP_SECONDS)
    kills = sum(trials.kill_once(tmp_path / "run", STEP_SECONDS) for _ in range(3))
    assert kills
    trials.finish(tmp_path / "run")
    assert_same(tmp_path / "reference", tmp_path / "run")


def test_killed_training_of_lrrf_is_resumed(tmp_path):
    """Only key-frames on a small backbone, which compile quickly; the program can run any config."""
    networks = write_networks(tmp_path)
    settings = {"backbone": networks.backbone, "init_from": networks.trained, "propagate": False}
    settings |= {"data.size": (64, 64), "data.crop": 16, "data.window": 24}
    flags = [f"--config.{name}={value}" for name, value in settings.items()]
    command = "-m tests.training.kill_and_resume --trials 2 --steps 6"
    done = subprocess.run(
        [sys.executable, *command.split(), "--config", "configs/ldip_basicvsr_x4.py:debug", *flags],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "XLA_FLAGS": hardly_optimised()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search("^2 kills in .*, all the same", done.stdout, re.MULTILINE), done.stdout


def test_a_run_of_an_earlier_version_is_resumed(tmp_path, capsys):
    """Its first checkpoint, written before modules and config fields were renamed; all weights are 0.

    `propagation` had another default then.
    """
    with tarfile.open(Path(__file__).with_name("earlier_run.tar.xz")) as stored:
        stored.extractall(tmp_path, filter="data")
    config = get_config("debug")
    config.propagation = "hrip"
    assert train(config, tmp_path, export_only=True) == 0
    assert "step 1: " in capsys.readouterr().out
    export = load_export(tmp_path / "export.safetensors", backbone=frozen_backbone("seeded", tmp_path))
    assert export.config["propagation"] == "hrip"
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(export.groups["lrrf"]))
