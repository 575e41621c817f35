"""PSNR and SSIM against the textbook formulas in float64 NumPy."""

import math

import jax
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from ldip_jax.evaluation.metrics import frame_metrics, psnr, ssim


def quantised(image):
    return np.round(np.clip(image, 0, 1) * np.float32(255)).astype(np.uint8)


def luma(image):
    r, g, b = np.moveaxis(quantised(image).astype(np.float64) / 255, -1, 0)
    return (16 + 65.481 * r + 128.553 * g + 24.966 * b)[..., None]


def scored(image, channel, crop):
    values = luma(image) if channel == "y" else quantised(image).astype(np.float64)
    return values[crop : values.shape[0] - crop, crop : values.shape[1] - crop]


def expected_psnr(a, b, channel, crop=0):
    mse = np.mean((scored(a, channel, crop) - scored(b, channel, crop)) ** 2)
    return 10 * math.log10(255**2 / mse)


def expected_ssim(a, b, channel, crop=0):
    offset = np.arange(-5, 6)
    window = np.exp(-(offset[:, None] ** 2 + offset[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(x):
        h, w = x.shape[0] - 10, x.shape[1] - 10
        return sum(window[i, j] * x[i : i + h, j : j + w] for i in range(11) for j in range(11))

    def one(x, y):
        mx, my = blur(x), blur(y)
        vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        return np.mean((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))

    a, b = scored(a, channel, crop), scored(b, channel, crop)
    return np.mean([one(a[..., i], b[..., i]) for i in range(a.shape[-1])])


def smooth_scene(rng, h, w):
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    scene = 0.5 + 0.5 * np.sin(x[..., None] / [9, 5, 23] + (y * y)[..., None] / [40, 900, 77])
    return (scene * (0.7 + 0.3 * rng.random((h, w, 3)))).astype(np.float32)


def pairs(h=83, w=111):
    """Name -> two images: ordinary ones, and those for which float32 easily goes wrong."""
    rng = np.random.default_rng(7)
    scene = smooth_scene(rng, h, w)
    noise = rng.normal(0, 1, scene.shape).astype(np.float32)
    white = np.ones_like(scene)
    halves = white.copy()
    halves[: h // 2] = 0
    return {
        "good": (scene, scene + 0.01 * noise),
        "poor": (scene, scene + 0.2 * noise),
        "unrelated": (scene, rng.random(scene.shape, np.float32)),
        "out of range": (3 * scene - 1, 3 * scene - 1 + 0.1 * noise),
        "white with faint noise": (white, white - 0.012 * np.abs(noise)),
        "bright and dark halves": (halves, halves + 0.03 * noise),
        "brightness shift": (0.5 * scene, 0.5 * scene + 0.25),
        "black and white": (0 * white, white),
        "inverted": (scene, 1 - scene),
        "one step": (white, white - np.float32(1 / 255)),
        "round half to even": (np.round(scene * 254) / 255 + np.float32(0.5 / 255), scene),
    }


@pytest.mark.parametrize("crop", [0, 4])
@pytest.mark.parametrize("channel", ["y", "rgb"])
@pytest.mark.parametrize("name", pairs())
def test_equals_the_float64_formulas(name, channel, crop):
    a, b = (np.asarray(x, np.float32) for x in pairs()[name])
    assert abs(float(psnr(a, b, channel, crop)) - expected_psnr(a, b, channel, crop)) < 1e-4
    assert abs(float(ssim(a, b, channel, crop)) - expected_ssim(a, b, channel, crop)) < 1e-5


def test_large_frames_keep_four_decimals():
    rng = np.random.default_rng(3)
    a = smooth_scene(rng, 720, 1280)
    b = a + 0.004 * rng.normal(0, 1, a.shape).astype(np.float32)
    for channel in ("y", "rgb"):
        assert abs(float(psnr(a, b, channel)) - expected_psnr(a, b, channel)) < 2e-5
    assert abs(float(ssim(a, b, "y")) - expected_ssim(a, b, "y")) < 2e-6


def test_values_calculated_by_hand():
    # Every channel one level apart: MSE 1 in RGB; luma (65.481 + 128.553 + 24.966) / 255 = 219/255 apart.
    a = np.full((16, 16, 3), 100 / 255, np.float32)
    b = np.full((16, 16, 3), 101 / 255, np.float32)
    assert float(psnr(a, b, "rgb")) == pytest.approx(20 * math.log10(255), abs=1e-4)
    assert float(psnr(a, b, "y")) == pytest.approx(20 * math.log10(255 * 255 / 219), abs=1e-4)


@pytest.mark.parametrize("channel", ["y", "rgb"])
def test_differences_below_half_a_level_do_not_count(channel):
    a = np.full((12, 12, 3), 100 / 255, np.float32)
    b = a + np.float32(0.4 / 255)
    assert math.isinf(float(psnr(a, b, channel)))
    assert float(ssim(a, b, channel)) == 1.0


def test_symmetric_and_at_most_one():
    for a, b in pairs(40, 50).values():
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        assert float(psnr(a, b, "y")) == float(psnr(b, a, "y"))
        assert float(ssim(a, b, "rgb")) == pytest.approx(float(ssim(b, a, "rgb")), abs=1e-6)
        assert float(ssim(a, b, "rgb")) <= 1.0


def test_frame_metrics_are_the_four_scores():
    a, b = pairs(40, 50)["good"]
    scores = frame_metrics(a, b)
    assert list(scores) == ["psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"]
    assert all(type(value) is float for value in scores.values())
    for metric, channel in ((psnr, "y"), (ssim, "y"), (psnr, "rgb"), (ssim, "rgb")):
        assert scores[f"{metric.__name__}_{channel}"] == pytest.approx(float(metric(a, b, channel)), rel=1e-6)


@pytest.mark.parametrize(("h", "w"), [(10, 64), (64, 10), (1, 1)])
def test_frames_under_the_window_have_psnr_but_no_ssim(h, w):
    a, b = np.zeros((h, w, 3), np.float32), np.full((h, w, 3), 0.5, np.float32)
    scores = frame_metrics(a, b)
    assert scores["ssim_y"] is None
    assert scores["ssim_rgb"] is None
    assert scores["psnr_rgb"] == pytest.approx(20 * math.log10(255 / 128), abs=1e-4)
    with pytest.raises(ValueError, match="under 11"):
        ssim(a, b)


def test_eleven_pixels_are_enough_for_ssim():
    a, b = (x[:11, :11] for x in pairs(20, 20)["poor"])
    assert frame_metrics(a, b)["ssim_y"] == pytest.approx(expected_ssim(a, b, "y"), abs=1e-5)


def test_impossible_requests_are_refused():
    a = np.zeros((16, 16, 3), np.float32)
    # Whichever check comes first: that of the annotations if they are enforced, else the function's own.
    with pytest.raises((ValueError, TypeCheckError), match=r"different shapes|h w 3"):
        psnr(a, a[:, :15])
    with pytest.raises(ValueError, match="border of 8"):
        psnr(a, a, crop=8)


def test_works_under_vmap_and_jit():
    a, b = pairs(30, 31)["poor"]
    batch = jax.jit(jax.vmap(lambda x, y: ssim(x, y, "rgb")))(np.stack([a, b]), np.stack([b, b]))
    assert float(batch[0]) == pytest.approx(expected_ssim(a, b, "rgb"), abs=1e-5)
    assert float(batch[1]) == 1.0
