"""The published checkpoints, if they are available or can be fetched."""

import jax
import numpy as np
import pytest

from tests.published import published_params

COUNTS = {
    "basicvsr-reds4": 6_291_311,
    "basicvsr-vimeo-bi": 6_291_311,
    "basicvsr-vimeo-bd": 6_291_311,
    "gmflow": 4_716_720,
}


@pytest.fixture(scope="session", params=COUNTS)
def published(request):
    return published_params(request.param), COUNTS[request.param]


def test_published_checkpoints_load_strictly_and_completely(published):
    params, count = published
    leaves = jax.tree.leaves(params)
    assert sum(leaf.size for leaf in leaves) == count
    assert all(leaf.dtype == np.float32 and np.isfinite(leaf).all() and leaf.any() for leaf in leaves)
