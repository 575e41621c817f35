"""Exposure, gamma and white balance of a still, found from pixels with noise and outliers."""

import numpy as np
import pytest

from ldip_jax.matching.calibration import Calibration, fit_calibration

CAMERAS = {
    "darker": lambda x: 0.8 * x,
    "brighter": lambda x: 1.2 * x,
    "steeper": lambda x: x**1.3,
    "flatter": lambda x: x**0.8,
    "warmer": lambda x: x * np.array([1.1, 1.0, 0.85], np.float32),
    "all at once": lambda x: (0.85 * x * np.array([1.1, 1.0, 0.85], np.float32)) ** 0.8,
}


@pytest.fixture
def scene(rng):
    """Colours of a scene, mostly greyish."""
    grey = rng.uniform(0.05, 0.9, (4000, 1))
    return np.clip(grey + rng.normal(0.0, 0.06, (4000, 3)), 0.0, 1.0).astype(np.float32)


def seen(values, rng, noise=0.015, wrong=0.2):
    """The values as they are matched: noisy, and some of them from wrong places."""
    values = values + rng.normal(0.0, noise, values.shape)
    values[: round(wrong * len(values))] = rng.uniform(0.0, 1.0, (round(wrong * len(values)), 3))
    return np.clip(values, 0.0, 1.0).astype(np.float32)


def everywhere(values):
    return np.ones(len(values), np.float32)


@pytest.mark.parametrize("camera", CAMERAS)
def test_changes_by_a_camera_are_undone(scene, rng, camera):
    still = np.clip(CAMERAS[camera](scene), 0.0, 1.0)
    found = fit_calibration(seen(still, rng), seen(scene, rng), everywhere(scene))
    assert found is not None
    kept = still.max(axis=1) < 1.0
    assert np.abs(found(still) - scene)[kept].mean() < 0.004
    assert np.abs(still - scene)[kept].mean() > 0.02


def test_an_unaltered_still_is_not_calibrated(scene, rng):
    for _ in range(5):
        assert fit_calibration(seen(scene, rng, 0.03), seen(scene, rng, 0.03), everywhere(scene)) is None
    assert fit_calibration(seen(1.01 * scene, rng), seen(scene, rng), everywhere(scene)) is None


def test_the_fit_is_symmetric(scene, rng):
    """Noise on either side does not flatten the slope, as it would in ordinary regression."""
    still, clip = seen(0.7 * scene, rng, 0.02), seen(scene, rng, 0.02)
    there, back = (fit_calibration(*pair, everywhere(scene)) for pair in ((still, clip), (clip, still)))
    assert there is not None
    assert back is not None
    assert there.stops == pytest.approx(-back.stops, abs=0.05)
    assert there.gamma * back.gamma == pytest.approx(1.0, abs=0.03)


def test_samples_without_confidence_are_ignored(scene, rng):
    still = seen(0.8 * scene, rng)
    weight = everywhere(scene)
    weight[:3000] = 0.0
    still[:3000] = np.sqrt(scene[:3000])
    found = fit_calibration(still, scene, weight)
    assert found is not None
    assert found.stops == pytest.approx(-2.2 * np.log2(0.8), abs=0.05)


@pytest.mark.parametrize("count", [0, 30])
def test_too_few_samples_give_no_calibration(scene, count):
    weight = np.zeros(len(scene), np.float32)
    weight[:count] = 1.0
    assert fit_calibration(0.8 * scene, scene, weight) is None


def test_implausible_calibrations_are_rejected(scene, rng):
    others = rng.uniform(0.0, 1.0, scene.shape).astype(np.float32)
    black, white = np.zeros_like(scene), np.ones_like(scene)
    negative, night = 1.0 - scene, 0.15 * scene
    for still in (others, black, white, negative, night):
        assert fit_calibration(still, scene, everywhere(scene)) is None


def test_a_single_tone_gives_no_gamma(rng):
    clip = np.full((500, 3), 0.5, np.float32) + rng.normal(0.0, 0.01, (500, 3)).astype(np.float32)
    found = fit_calibration(0.8 * clip, clip, everywhere(clip))
    assert found is not None
    assert found.gamma == 1.0
    np.testing.assert_allclose(found.gain, 1.25, rtol=0.01)


def test_a_calibration_as_text():
    half = Calibration((0.5, 0.5, 0.5))
    assert half.stops == pytest.approx(-2.2)
    assert half.white == pytest.approx((1.0, 1.0, 1.0))
    warm = Calibration((2.2, 2.0, 1.7), 0.8)
    assert np.prod(warm.white) == pytest.approx(1.0)
    assert str(warm) == "exposure +2.13 stops, gamma 0.80, white balance 1.12 1.02 0.87"


def test_values_stay_in_range_and_float32():
    image = np.linspace(0.0, 1.0, 30, dtype=np.float32).reshape(2, 5, 3)
    calibrated = Calibration((3.0, 1.0, 0.5), 0.6)(image)
    assert calibrated.dtype == np.float32
    assert calibrated.min() == 0.0
    assert calibrated.max() == 1.0
    np.testing.assert_array_equal(Calibration()(image), image)
