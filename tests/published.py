"""Published weights for tests: from the cache, or fetched."""

import os
import signal
import subprocess
import sys
import time
from functools import cache
from typing import Any

import pytest

from ldip_jax.errors import InputError
from ldip_jax.weights.catalogue import CATALOGUE
from ldip_jax.weights.fetch import cached
from ldip_jax.weights.load import load_weights

# Seconds for all downloads together: a stalled network must not be taken for a hanging test.
PATIENCE = 150


@cache
def _load(name: str) -> dict[str, Any] | str:
    try:
        if cached(CATALOGUE[name]) is None and (failure := _fetched(name)):
            return failure
        return load_weights(name).params
    except InputError as error:
        return str(error)


@cache
def _deadline() -> float:
    return time.monotonic() + PATIENCE


def _fetched(name: str) -> str:
    """Fetch weights in a separate process, whose downloads end with it; returns what went wrong, or ""."""
    command = [sys.executable, "-m", "ldip_jax.cli.main", "weights", "fetch", name]
    left = max(_deadline() - time.monotonic(), 0.0)
    # In a session of its own, because downloads are grandchildren, which must end too.
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, errors = process.communicate(timeout=left)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"{name}: not fetched within {PATIENCE} seconds, which include earlier downloads"
    return errors.strip() if process.returncode else ""


def published_params(name: str) -> dict[str, Any]:
    """The parameters; skips the test, with the reason, if they are not cached and cannot be fetched.

    To be called by session fixtures, which see the user's own cache.
    """
    params = _load(name)
    if isinstance(params, str):
        pytest.skip(params)
    return params
