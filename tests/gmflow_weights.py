"""The published GMFlow weights for tests: from the cache, or fetched."""

from functools import cache
from typing import Any

import pytest

from ldip_jax.errors import InputError
from ldip_jax.weights.load import load_weights


@cache
def _params() -> dict[str, Any] | str:
    try:
        return load_weights("gmflow", network="gmflow").params
    except InputError as error:
        return str(error)


def published_gmflow() -> dict[str, Any]:
    """The parameters; skips the test, with the reason, where they can neither be found nor fetched.

    To be called by session fixtures, which see the user's own cache.
    """
    params = _params()
    if isinstance(params, str):
        pytest.skip(params)
    return params
