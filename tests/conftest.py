"""Setup for every test: strict JAX, a cache of compiled programs, files only in the test's folder."""

import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from ldip_jax.runtime import configure
from tests.compilation import compile_quickly

ROOT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Set up JAX, and what processes started by tests inherit."""
    # Background jobs of a shell ignore Ctrl-C, and so would everything that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("jax")))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    # With the flags that commands set, their processes reuse what was compiled here, and vice versa.
    compile_quickly()
    configure()
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def only_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths and the weights cache are in the test's folder, also for processes that it starts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LDIP_CACHE", str(tmp_path / "ldip-cache"))


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(0)


@pytest.fixture
def key() -> jax.Array:
    """A JAX key, the same in every run."""
    return jax.random.key(0)
