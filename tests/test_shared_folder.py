"""A short run of `benchmarks/shared_folder.py`, on random weights."""

import random
import sys

from benchmarks import shared_folder
from ldip_jax.weights.load import save_weights
from tests.networks import LR, random_backbone


def test_what_a_killed_process_leaves_is_done_by_the_other(tmp_path, capsys):
    backbone = tmp_path / "backbone.safetensors"
    save_weights(backbone, random_backbone(1))
    command = [sys.executable, "-m", "ldip_jax.cli.start", "upscale", "--lrrf", "none"]
    command += ["--scale", "1", "--backbone", str(backbone)]
    failures = shared_folder.run(command, tmp_path, clips=5, frames=4, rng=random.Random(0), size=LR)
    assert failures == []
    assert "killed after 2 clips: True" in capsys.readouterr().out
