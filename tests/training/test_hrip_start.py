"""HRIP's initialisation with the difference between neighbouring frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.training.hrip_start import difference_start, is_untrained
from tests.models.random_models import narrow_ldip


@pytest.fixture(scope="module")
def cells():
    net, params = narrow_ldip()
    hrip = difference_start(params["lrrf"]["hrip"])

    def step(params, current, previous):
        still = jnp.zeros((1, 16, 16, 2))
        return net.lrrf.apply({"params": params}, True, current, previous, still, method=net.lrrf.propagate)

    return {**params["lrrf"], "hrip": hrip}, jax.jit(step)


def test_features_move_towards_a_previous_frame_with_more_detail(cells, rng):
    params, step = cells
    smooth = np.repeat(np.repeat(rng.standard_normal((1, 4, 4, 64)), 4, 1), 4, 2).astype(np.float32)
    detail = 0.3 * rng.standard_normal((1, 16, 16, 64)).astype(np.float32)
    # The features are in the backbone's scale, 0.5 here.
    moved = np.asarray(step(params, 0.5 * smooth, 0.5 * (smooth + detail))) - np.asarray(
        step(params, 0.5 * smooth, 0.5 * smooth)
    )
    share = float(np.sum(moved * 0.5 * detail) / np.sum((0.5 * detail) ** 2))
    assert 0.1 < share < 0.5
    correlation = np.corrcoef(moved.ravel(), detail.ravel())[0, 1]
    assert correlation > 0.8


def test_equal_frames_hardly_change(cells, rng):
    params, step = cells
    features = rng.standard_normal((1, 16, 16, 64)).astype(np.float32)
    change = np.asarray(step(params, features, features)) - features
    assert np.abs(change).mean() < 0.15 * np.abs(features).mean()


def test_a_trained_hrip_is_refused(cells):
    _, params = narrow_ldip()
    assert is_untrained(params["lrrf"]["hrip"])
    with pytest.raises(InputError, match="trained already"):
        difference_start(cells[0]["hrip"])
