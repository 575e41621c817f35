"""Alterations of single images, checked by arithmetic."""

import numpy as np
import pytest

from ldip_jax.data import alterations
from ldip_jax.data.alterations import parse_alteration
from ldip_jax.data.codecs import jpeg
from ldip_jax.errors import InputError


def test_tones(rng):
    image = rng.integers(0, 256, (5, 7, 3), np.uint8)
    values = image / 255
    for altered, expected in [
        (alterations.exposure(image, 0.8), values * 0.8),
        (alterations.exposure(image, 1.5), values * 1.5),
        (alterations.gamma(image, 1.3), values**1.3),
        (alterations.white(image, (1.1, 1.0, 0.85)), values * (1.1, 1.0, 0.85)),
    ]:
        assert altered.dtype == np.uint8
        np.testing.assert_allclose(altered / 255, np.clip(expected, 0, 1), atol=0.51 / 255)
    np.testing.assert_array_equal(alterations.gamma(image, 1.0), image)


def test_blur_spreads_a_point_by_its_sigma_and_keeps_its_light():
    image = np.zeros((41, 41, 3), np.uint8)
    image[18:23, 18:23] = 255
    blurred = alterations.blur(image, 3.0)[..., 0].astype(float)
    x = np.arange(41) - 20
    profile = blurred.sum(axis=0)
    # The square itself has a variance of 2.
    np.testing.assert_allclose((profile * x**2).sum() / profile.sum(), 9 + 2, rtol=0.1)
    np.testing.assert_allclose(blurred.sum(), image[..., 0].sum(), rtol=0.05)


def test_noise_has_its_sigma_and_comes_from_the_generator():
    image = np.full((64, 64, 3), 128, np.uint8)
    noisy = [alterations.noise(image, 8.0, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert (noisy[0] != noisy[2]).any()
    np.testing.assert_allclose(noisy[0].std(), 8, rtol=0.05)
    np.testing.assert_allclose(noisy[0].mean(), 128, atol=0.5)


def test_each_alteration_by_name(rng):
    image = rng.integers(0, 256, (5, 7, 3), np.uint8)
    for text, expected in {
        "exposure:0.8": alterations.exposure(image, 0.8),
        "gamma:1.3": alterations.gamma(image, 1.3),
        "white:1.1,1,0.85": alterations.white(image, (1.1, 1.0, 0.85)),
        "blur:2": alterations.blur(image, 2.0),
        "noise:8": alterations.noise(image, 8.0, np.random.default_rng(1)),
        "jpeg:60": jpeg(image, 60),
        "mirror": np.flip(image, 1),
        "plain:black": np.zeros_like(image),
        "plain:grey": np.full_like(image, 128),
        "plain:white": np.full_like(image, 255),
    }.items():
        alteration = parse_alteration(text)
        assert alteration.text == text
        np.testing.assert_array_equal(alteration(image, np.random.default_rng(1)), expected, err_msg=text)
    assert parse_alteration("exposure:0.80").text == "exposure:0.8"


@pytest.mark.parametrize(
    "text",
    [
        *("", "sharpen:2", "exposure", "exposure:0", "exposure:nan", "exposure:1,2", "white:1,2", "blur:-1"),
        *("jpeg:0", "jpeg:60.5", "mirror:1", "plain:red", "noise:loud"),
    ],
)
def test_invalid_alterations_are_refused(text):
    with pytest.raises(InputError, match=r"choose|takes") as error:
        parse_alteration(text)
    assert repr(text) in str(error.value)
    assert "\n" not in str(error.value)
