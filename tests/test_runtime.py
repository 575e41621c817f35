"""Settings that are made before jax is imported."""

import os
import subprocess
import sys

from ldip_jax.runtime import DETERMINISTIC, make_deterministic


def test_deterministic_runs_disable_triton_and_keep_the_users_flags(monkeypatch):
    """With Triton, the x4 step would not compile for compute capabilities 8.6 and 8.9."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_enable_triton_gemm=true --xla_gpu_autotune_level=0")
    make_deterministic()
    make_deterministic()
    assert os.environ["XLA_FLAGS"].split() == [
        "--xla_gpu_enable_triton_gemm=true",
        "--xla_gpu_autotune_level=0",
        "--xla_gpu_deterministic_ops=true",
    ]
    monkeypatch.delenv("XLA_FLAGS")
    make_deterministic()
    assert set(os.environ["XLA_FLAGS"].split()) == {f"{n}={v}" for n, v in DETERMINISTIC.items()}
    # An unknown flag ends the process.
    program = "import jax; print(jax.devices('cpu'))"
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})


def test_the_settings_apply_even_if_a_flag_imports_jax():
    """They did not: programs were compiled in every run, which then took twice as long."""
    program = """
import argparse, sys
from ldip_jax.command import run_guarded

def kind(text):
    import jax
    return text

def run(args):
    import gc, jax
    print(gc.get_threshold()[0] > 10_000, jax.config.jax_compilation_cache_dir)
    return 0

parser = argparse.ArgumentParser()
parser.add_argument("--kind", type=kind)
parser.set_defaults(run=run)
sys.exit(run_guarded("ldip", parser, ["--kind", "a"]))
"""
    words = [sys.executable, "-c", program]
    environment = {name: text for name, text in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(words, check=True, env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("True")
    assert done.stdout.strip().endswith("compiled")
