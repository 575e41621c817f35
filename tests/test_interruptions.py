"""A short run of `benchmarks/interruptions.py`, on random weights."""

import importlib.util
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ldip_jax.weights.load import save_weights
from tests.networks import LR, random_backbone

PATH = Path(__file__).parents[1] / "benchmarks" / "interruptions.py"


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("interruptions", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_run_survives_kill_and_sigterm(program, tmp_path):
    backbone = tmp_path / "backbone.safetensors"
    save_weights(backbone, random_backbone(1))
    command = [sys.executable, "-m", "ldip_jax.cli.start", "upscale", "--lrrf", "none"]
    command += ["--scale", "1", "--backbone", str(backbone)]
    source = program.make_clip(tmp_path / "in.mp4", 40, seed=0, size=LR)
    out = tmp_path / "out" / "b.mp4"
    out.parent.mkdir()
    # Both results have the same name, because names are compared too.
    whole = tmp_path / "whole" / "b.mp4"
    whole.parent.mkdir()
    case = program.Case(command, source, whole, out)
    # Both signals come halfway through a run.
    _, _, failures = case.run(2, random.Random(144))
    assert failures == []


def test_what_counts_as_a_failure(program, tmp_path):
    case = program.Case.__new__(program.Case)
    assert case._judge(0, -signal.SIGKILL, "") == []
    assert case._judge(1, 143, "ldip: interrupted") == []
    assert case._judge(2, 130, "") == case._judge(2, 0, "") == []
    assert case._judge(1, 130, "") == ["SIGTERM gave the exit code 130: []"]
    assert case._judge(2, 130, "Traceback (most recent call last):") == ["a traceback was printed"]
    (tmp_path / "a").write_text("1")
    assert program.digest(tmp_path) == program.digest(tmp_path / "a") != program.digest(tmp_path / "b")
    done = subprocess.run([sys.executable, str(PATH), "--kills", "0"], capture_output=True, text=True)
    assert done.returncode == 2
