"""A short run of `benchmarks/shared_folder.py`, on random weights."""

import random
import sys

from benchmarks import shared_folder
from tests.networks import write_networks


def test_what_a_killed_process_leaves_is_done_by_the_other(tmp_path, capsys):
    command = [sys.executable, "-m", "ldip_jax.cli.start", "upscale", "--lrrf", "none"]
    command += ["--scale", "1", "--backbone", str(write_networks(tmp_path).backbone)]
    assert shared_folder.run(command, tmp_path, clips=6, frames=4, rng=random.Random(0)) == []
    assert "killed after 2 clips: True" in capsys.readouterr().out
