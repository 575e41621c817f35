"""Published weights for tests: from the cache, or fetched."""

from functools import cache
from typing import Any

import pytest

from ldip_jax.errors import InputError
from ldip_jax.weights.load import load_weights


@cache
def _load(name: str) -> dict[str, Any] | str:
    try:
        return load_weights(name).params
    except InputError as error:
        return str(error)


def published_params(name: str) -> dict[str, Any]:
    """The parameters; skips the test, with the reason, where they can neither be found nor fetched.

    To be called by session fixtures, which see the user's own cache.
    """
    params = _load(name)
    if isinstance(params, str):
        pytest.skip(params)
    return params
