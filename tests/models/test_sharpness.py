"""Sharpness: blur is found where motion can explain it; compression is not taken for blur."""

import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.models.carry import identity_route
from ldip_jax.models.networks.backbone import Flows
from ldip_jax.models.sharpness import (
    AS_FAST,
    FASTER,
    clip_speeds,
    relative_sharpness,
    sharpness,
    speed,
    texture,
    times_as_sharp,
)
from ldip_jax.ops.blur import gaussian_blur
from tests.scenes import blocks


def shown(own, other, faster=2.0 * FASTER):
    """The relative sharpness of a frame that is faster than the other one by so much everywhere."""
    return relative_sharpness(own, other, jnp.full_like(own[..., :1], faster))


@pytest.mark.parametrize("sigma", [(1.5, 1.5), (2.0, 0.0), (0.0, 2.0)])
def test_a_blurred_frame_shows_no_detail_and_a_sharper_one_shows_all(rng, sigma):
    frame = jnp.asarray(rng.random((1, 32, 40, 3)), jnp.float32)
    blurred = gaussian_blur(frame, sigma)
    sharp, soft = texture(frame), texture(blurred)
    np.testing.assert_array_equal(shown(sharp, sharp), 1.0)
    assert shown(soft, sharp).max() < 0.01
    np.testing.assert_array_equal(shown(sharp, soft), 1.0)


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
    np.testing.assert_allclose(shown(flat, other), 1.0, atol=0.05)


@pytest.mark.parametrize(("sigma", "share"), [(0.4, (0.1, 0.5)), (0.5, (0.0, 0.1)), (0.6, (0.0, 0.02))])
def test_even_slight_blur_counts(rng, sigma, share):
    """In an image whose texture is as strong as that of photographs; `sigma` is in LR pixels."""
    scene = gaussian_blur(jnp.asarray(rng.random((1, 64, 160, 3)), jnp.float32), (0.7, 0.7))
    found = shown(texture(gaussian_blur(scene, (sigma, sigma))), texture(scene))
    assert share[0] <= found.mean() <= share[1]


def test_blur_counts_only_where_it_is(rng):
    frame = jnp.asarray(rng.random((1, 32, 80, 3)), jnp.float32)
    half = frame.at[:, :, 40:].set(gaussian_blur(frame, (1.5, 1.5))[:, :, 40:])
    share = shown(texture(half), texture(frame))[0, ..., 0]
    assert share[:, :20].min() > 0.99
    assert share[:, 60:].max() < 0.01


def test_texture_lost_without_motion_is_not_blur(rng):
    """As compression takes it, from frame to frame by different amounts."""
    frame = jnp.asarray(rng.random((1, 32, 40, 3)), jnp.float32)
    sharp, soft = texture(frame), texture(gaussian_blur(frame, (1.5, 1.5)))
    by_speed = (-1.0, AS_FAST, (AS_FAST + FASTER) / 2, FASTER)
    shares = [float(shown(soft, sharp, faster).mean()) for faster in by_speed]
    np.testing.assert_allclose(shares[:3], [1.0, 1.0, 0.5], atol=0.01)
    assert shares[3] < 0.01
    # Motion does not make a sharp frame less sharp.
    np.testing.assert_array_equal(shown(sharp, sharp), 1.0)


def test_speed_is_that_to_the_slower_side():
    flows = [jnp.zeros((1, 2, 2, 2)).at[..., 0].set(x) for x in (3.0, -2.0)]
    np.testing.assert_allclose(speed(flows), 2.0)
    np.testing.assert_allclose(speed(flows[:1]), 3.0)


def test_a_clip_has_the_speeds_of_its_frames(rng):
    """The first and the last frame have only one neighbour; their other flow is zero."""
    there, back = (jnp.asarray(rng.standard_normal((1, 4, 3, 5, 2)), jnp.float32) for _ in range(2))
    flows = Flows(there.at[:, -1].set(0.0), back.at[:, 0].set(0.0))
    known = [[there[:, 0]], [there[:, 1], back[:, 1]], [there[:, 2], back[:, 2]], [back[:, 3]]]
    expected = jnp.stack([speed(frame) for frame in known], axis=1)
    np.testing.assert_array_equal(clip_speeds(flows), expected)
    assert expected.min() > 0.0
