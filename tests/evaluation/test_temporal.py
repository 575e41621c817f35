"""tOF: zero for the same motion, and the distance of the flows otherwise."""

import jax
import numpy as np
import pytest

from ldip_jax.evaluation.metrics import TemporalScore
from ldip_jax.models.networks.spynet import SPyNet
from tests.networks import random_backbone
from tests.scenes import blocks


@pytest.fixture(scope="module")
def spynet():
    return jax.device_put(random_backbone(1).params["spynet"])


def test_scores_pairs_of_neighbours(spynet):
    frames = [blocks(3, 32, 48)[:, i : i + 32] for i in (0, 2, 4)]
    still = TemporalScore(spynet)
    assert still(0, frames[0], frames[0]) is None
    frozen = still(1, frames[1], frames[0])
    assert frozen > 0
    # Frame 3 has no frame before it.
    assert still(3, frames[2], frames[2]) is None
    same = TemporalScore(spynet)
    same(0, frames[0], frames[0])
    assert same(1, frames[1], frames[1]) == pytest.approx(0.0, abs=1e-6)


def test_is_the_mean_distance_of_the_two_flows(spynet):
    a, b, c, d = (blocks(seed, 32, 32) for seed in range(4))
    score = TemporalScore(spynet)
    score(0, a, c)

    @jax.jit
    def flow(x, y):
        return SPyNet().apply({"params": spynet}, x[None], y[None])[0]

    expected = np.linalg.norm(flow(a, b) - flow(c, d), axis=-1).mean()
    assert score(1, b, d) == pytest.approx(expected, rel=1e-4)
