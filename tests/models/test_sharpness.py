"""Sharpness: blur is found where motion can explain it; compression is not taken for blur."""

import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.models.carry import Route, identity_route
from ldip_jax.models.sharpness import (
    AS_FAST,
    FASTER,
    least_sharpness,
    relative_sharpness,
    sharpness,
    speed,
    texture,
    times_as_sharp,
)
from ldip_jax.ops.blur import gaussian_blur
from tests.scenes import blocks


@pytest.mark.parametrize("sigma", [(1.5, 1.5), (2.0, 0.0), (0.0, 2.0)])
def test_a_blurred_frame_shows_no_detail_and_a_sharper_one_shows_all(rng, sigma):
    frame = jnp.asarray(rng.random((1, 32, 40, 3)), jnp.float32)
    blurred = gaussian_blur(frame, sigma)
    sharp, soft = texture(frame), texture(blurred)
    np.testing.assert_array_equal(relative_sharpness(sharp, sharp), 1.0)
    assert relative_sharpness(soft, sharp).max() < 0.01
    np.testing.assert_array_equal(relative_sharpness(sharp, soft), 1.0)


@pytest.mark.parametrize("flow_size", [(40, 64), (80, 128)])
def test_a_sharp_frame_is_measured_as_sharper_than_a_blurred_one(flow_size):
    """Even if the flow is of smaller frames."""
    frame = jnp.asarray(blocks(4, 80, 128))[None]
    blurred = gaussian_blur(frame, (1.5, 1.5))
    sharp, soft = map(sharpness, (frame, blurred))
    route = identity_route(*flow_size)
    ratio = float(times_as_sharp(sharp, soft, route)[0])
    assert ratio > 1.5
    np.testing.assert_allclose(times_as_sharp(soft, sharp, route), [1.0 / ratio], rtol=0.1)
    np.testing.assert_allclose(times_as_sharp(sharp, sharp, route), [1.0], rtol=1e-5)
    # Frames that show different places cannot be compared.
    nowhere = route._replace(confidence=jnp.zeros_like(route.confidence))
    assert np.isnan(times_as_sharp(sharp, soft, nowhere)).all()


def test_frames_without_texture_are_not_blurred(rng):
    noise = jnp.asarray(rng.standard_normal((2, 1, 32, 40, 3)), jnp.float32)
    flat, other = texture(0.4 + 3e-4 * noise[0]), texture(0.7 + 3e-4 * noise[1])
    np.testing.assert_allclose(relative_sharpness(flat, other), 1.0, atol=0.05)


@pytest.mark.parametrize(("sigma", "share"), [(0.4, (0.1, 0.5)), (0.5, (0.0, 0.1)), (0.6, (0.0, 0.02))])
def test_even_slight_blur_counts(rng, sigma, share):
    """In an image whose texture is as strong as that of photographs; `sigma` is in LR pixels."""
    scene = gaussian_blur(jnp.asarray(rng.random((1, 64, 160, 3)), jnp.float32), (0.7, 0.7))
    found = relative_sharpness(texture(gaussian_blur(scene, (sigma, sigma))), texture(scene))
    assert share[0] <= found.mean() <= share[1]


def test_blur_counts_only_where_it_is(rng):
    frame = jnp.asarray(rng.random((1, 32, 80, 3)), jnp.float32)
    half = frame.at[:, :, 40:].set(gaussian_blur(frame, (1.5, 1.5))[:, :, 40:])
    share = relative_sharpness(texture(half), texture(frame))[0, ..., 0]
    assert share[:, :20].min() > 0.99
    assert share[:, 60:].max() < 0.01


def test_a_damaged_frame_is_blurred_only_as_far_as_it_is_faster():
    """Compression takes texture, too; without damage, only texture counts."""
    shape, route = (1, 20, 30, 1), identity_route(20, 30)

    def least(faster, damage):
        found = least_sharpness(jnp.full(shape, 1.0 + faster), jnp.ones(shape), route, jnp.float32(damage))
        np.testing.assert_allclose(found, found[0, 0, 0, 0], rtol=1e-6)
        return float(found.mean())

    for damage in (0.0, 0.5, 1.0):
        found = [least(x, damage) for x in (-1.0, AS_FAST, (AS_FAST + FASTER) / 2, FASTER, 3.0)]
        np.testing.assert_allclose(found, [damage, damage, damage / 2, 0.0, 0.0], atol=1e-5)


def test_speeds_are_compared_at_the_same_places():
    """The left half of the other frame is fast; the route leads there from the right half."""
    other = jnp.zeros((1, 8, 20, 1)).at[:, :, :10].set(2.0)
    route = Route(jnp.zeros((1, 8, 20, 2)).at[..., 0].set(-10.0), jnp.ones((1, 8, 20, 1)))
    found = least_sharpness(jnp.full((1, 8, 20, 1), 2.0), other, route, jnp.float32(1.0))
    np.testing.assert_allclose(found, 1.0)
    here = least_sharpness(jnp.full((1, 8, 20, 1), 2.0), other, identity_route(8, 20), jnp.float32(1.0))
    np.testing.assert_array_equal(here[0, 0, :, 0], [1.0] * 10 + [0.0] * 10)


def test_speed_is_that_to_the_slower_side():
    flows = [jnp.zeros((1, 2, 2, 2)).at[..., 0].set(x) for x in (3.0, -2.0)]
    np.testing.assert_allclose(speed(flows), 2.0)
    np.testing.assert_allclose(speed(flows[:1]), 3.0)
