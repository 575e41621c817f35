import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.matching.matcher import SIGMA, confident_share
from ldip_jax.ops.warp import forward_backward_confidence, inside

compiled = jax.jit(forward_backward_confidence, static_argnums=2)


def confidence_of(forward, backward, sigma=1.5):
    return np.asarray(compiled(forward, backward, sigma))


def constant(x, y):
    return np.full((1, 20, 30, 2), [x, y], np.float32)


def test_consistent_flows_have_full_confidence_where_they_stay_inside():
    confidence = confidence_of(constant(4.0, -3.0), constant(-4.0, 3.0))[0, ..., 0]
    np.testing.assert_allclose(confidence[3:, :26], 1.0, atol=1e-6)
    assert confidence[:3].max() == confidence[:, 26:].max() == 0.0


@pytest.mark.parametrize(("x", "y"), [(1.0, 0.0), (0.0, -1.5), (3.0, 4.0)])
def test_confidence_is_a_gaussian_of_the_forward_backward_error(x, y):
    confidence = confidence_of(constant(2.0, 1.0), constant(x - 2.0, y - 1.0))
    np.testing.assert_allclose(confidence[0, :15, :20], np.exp(-(x * x + y * y) / 4.5), rtol=1e-5)


def test_the_backward_flow_is_sampled_between_pixels():
    # The backward flow at column q is -q / 8, so at x + 0.5 it is -(x + 0.5) / 8: no error where x = 3.5.
    backward = constant(0.0, 0.0)
    backward[..., 0] = -np.arange(30.0) / 8
    confidence = confidence_of(constant(0.5, 0.0), backward)[0, 10, :, 0]
    error = 0.5 - (np.arange(29) + 0.5) / 8
    np.testing.assert_allclose(confidence[:29], np.exp(-(error**2) / 4.5), rtol=1e-5)


def test_unrelated_flows_are_not_trusted(rng):
    flows = 30.0 * rng.standard_normal((2, 1, 120, 160, 2)).astype(np.float32)
    assert confident_share(compiled(*flows, SIGMA)) < 0.005


def test_inside_means_that_the_rounded_place_is_a_pixel():
    places = np.array([[-0.51, 0], [-0.5, 0], [0, 0], [6.49, 0], [6.51, 0], [0, 4.4], [0, 4.6], [0, -9]])
    places = np.append(places, [[np.nan, np.nan]], axis=0).reshape(1, 3, 3, 2)
    found = np.asarray(jax.jit(inside)(places, np.array([7.0, 5.0])))
    np.testing.assert_array_equal(found.ravel(), [0, 1, 1, 1, 0, 1, 0, 0, 0])


def test_share_counts_pixels_above_one_half():
    assert confident_share(jnp.array([0.0, 0.5, 0.51, 1.0]).reshape(1, 2, 2, 1)) == 0.5
