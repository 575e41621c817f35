"""Whether a match rests on evidence, and whether the reference has detail to add."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.matching import evidence as module
from ldip_jax.matching.evidence import measure_evidence, warp_reference
from ldip_jax.matching.matcher import Match
from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.blur import gaussian_blur
from ldip_jax.ops.warp import pixel_grid
from tests.scenes import blocks

SIZE = (96, 128)
SCALE = (4.0, 4.0)
SHARP = blocks(4, *SIZE)[None]
compiled = jax.jit(gaussian_blur, static_argnums=1)


def blurred(image, sigma):
    return np.asarray(compiled(image, (sigma, sigma)))


@cache
def anchor():
    return blurred(SHARP, 1.5)


@cache
def places():
    return np.asarray(pixel_grid(*SIZE))[None]


def evidence(shown, confidence=None):
    if confidence is None:
        confidence = np.ones((1, *SIZE, 1), np.float32)
    match = Match(*map(jnp.asarray, (places(), confidence)))
    return measure_evidence(anchor(), jnp.asarray(shown, jnp.float32), match, SCALE)


def test_a_true_still_is_alike_and_sharper():
    found = evidence(SHARP)
    assert found.likeness > 0.95
    assert found.sharpness > 2.0


@pytest.mark.parametrize(("gain", "shift"), [(0.7, 0.0), (0.6, 0.3)])
def test_likeness_does_not_depend_on_exposure(gain, shift):
    assert evidence(gain * SHARP + shift).likeness == pytest.approx(evidence(SHARP).likeness, abs=1e-3)


def test_blur_lowers_only_sharpness():
    found = evidence(blurred(SHARP, 2.0))
    assert found.likeness > 0.9
    assert found.sharpness < 0.7
    assert evidence(anchor()).sharpness == pytest.approx(1.0)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("noise", [0.0, 2.0, 8.0])
def test_a_uniform_still_is_not_alike(rng, value, noise):
    plain = value + noise / 255 * rng.standard_normal((1, *SIZE, 3))
    assert abs(evidence(np.clip(plain, 0, 1)).likeness) < 0.2


def test_an_unrelated_still_is_hardly_alike():
    assert abs(evidence(blocks(5, *SIZE)[None]).likeness) < 0.25


def test_only_confident_places_count():
    confidence = np.zeros((1, *SIZE, 1), np.float32)
    confidence[:, :, :64] = 1.0
    half = np.where(confidence > 0, SHARP, 0.5)
    # Except for what the low-pass filter carries across the edge.
    assert evidence(half, confidence).likeness > 0.8
    assert evidence(half, 1.0 - confidence).likeness < 0.5
    nothing = evidence(SHARP, 0.0 * confidence)
    assert nothing.likeness == 0.0


def test_a_reference_is_warped_to_the_key_frame():
    warped = np.asarray(warp_reference(SHARP, places() + np.float32([3.0, -2.0])))
    np.testing.assert_allclose(warped[:, 2:, :-3], SHARP[:, :-2, 3:], atol=1e-6)


def test_bands_give_the_evidence_of_the_whole_frame(rng, monkeypatch):
    size = (400, 32)
    image = blocks(4, *size)[None]
    images = image, blurred(image, 0.7) + 0.02 * rng.standard_normal((1, *size, 3)).astype(np.float32)
    confidence = rng.random((1, *size, 1), np.float32)

    def measured(pixels):
        monkeypatch.setattr(module, "BAND_PIXELS", pixels)
        return quick_jit(lambda *maps: module._evidence.__wrapped__(*maps, SCALE))(*images, confidence)

    whole = measured(2**18)
    np.testing.assert_allclose(measured(2**10), whole, rtol=1e-4)
    assert 0.3 < whole[0] < 0.999
