"""The conventions by name against scikit-image's numbers."""

import math

import numpy as np
import pytest

from ldip_jax.evaluation.metrics import CONVENTIONS, psnr_and_ssim

# For `pair()`, from scikit-image on images cropped beforehand: rgb2ycbcr, peak_signal_noise_ratio, and
# structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255).
EXPECTED = {
    "basicsr-y": (26.72949, 0.990027),
    "basicsr-rgb": (24.46957, 0.993831),
    "rgb-crop4": (36.55489, 0.997772),
    "y-crop4": (43.20945, 0.995995),
    "float-y": (26.72939, 0.990030),
}


def pair():
    """Images between the levels of 8 bits, in places outside [0, 1], and worse along the border."""
    y, x = np.mgrid[0:48, 0:70].astype(np.float64)
    a = 0.5 + 0.6 * np.sin(x[..., None] / [3, 5, 7] + (y * y)[..., None] / [90, 400, 77])
    b = a + 0.02 * np.cos(x * y / 7)[..., None] * [1.0, 0.5, 2.0]
    b[:3] += 0.3
    return a.astype(np.float32), b.astype(np.float32)


@pytest.mark.parametrize("name", EXPECTED)
def test_equals_scikit_image(name):
    psnr, ssim = psnr_and_ssim(name, *pair())
    assert psnr == pytest.approx(EXPECTED[name][0], abs=2e-4)
    assert ssim == pytest.approx(EXPECTED[name][1], abs=2e-5)


def test_every_convention_is_checked_and_no_two_agree():
    assert set(EXPECTED) == set(CONVENTIONS)
    assert len({psnr for psnr, _ in EXPECTED.values()}) == len(EXPECTED)


def test_images_that_are_too_small_have_no_ssim():
    a = np.zeros((18, 30, 3), np.float32)
    b = a + np.float32(1 / 255)
    psnr, ssim = psnr_and_ssim("rgb-crop4", a, b)
    assert psnr == pytest.approx(20 * math.log10(255), abs=1e-4)
    assert ssim is None
    assert psnr_and_ssim("basicsr-rgb", a, b)[1] is not None
    with pytest.raises(ValueError, match="border of 4"):
        psnr_and_ssim("y-crop4", a[:8], b[:8])


def test_values_that_round_to_the_same_level_differ_only_without_rounding():
    a = np.full((16, 16, 3), 100 / 255, np.float32)
    b = a + np.float32(0.4 / 255)
    assert math.isinf(psnr_and_ssim("basicsr-y", a, b)[0])
    assert psnr_and_ssim("float-y", a, b)[0] == pytest.approx(
        20 * math.log10(255 * 255 / (219 * 0.4)), abs=1e-3
    )
