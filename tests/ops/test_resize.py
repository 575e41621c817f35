"""Resizing against formulas, torch, and MATLAB's published convention."""

import numpy as np
import pytest

from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.imresize import imresize
from ldip_jax.ops.resize import resize_align_corners, resize_bicubic, resize_bilinear


@pytest.mark.parametrize("size", [(5, 9), (12, 3), (1, 1), (7, 7)])
def test_equal_to_torch(rng, size):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((2, 7, 6, 3)).astype(np.float32)
    image = torch.from_numpy(x).permute(0, 3, 1, 2)
    half_pixel = torch.nn.functional.interpolate(image, size, mode="bilinear", align_corners=False)
    corners = torch.nn.functional.interpolate(image, size, mode="bilinear", align_corners=True)
    back = lambda y: y.permute(0, 2, 3, 1).numpy()  # noqa: E731
    ours = quick_jit(lambda x: (resize_bilinear(x, size), resize_align_corners(x, size)))(x)
    np.testing.assert_allclose(ours[0], back(half_pixel), atol=2e-6)
    np.testing.assert_allclose(ours[1], back(corners), atol=2e-6)


def test_align_corners_keeps_corners_and_lines():
    x = np.linspace(0.0, 1.0, 5)[None, :, None, None] * np.ones((1, 5, 2, 1))
    y = np.asarray(quick_jit(lambda x: resize_align_corners(x, (9, 3)))(x))
    np.testing.assert_allclose(y[0, :, 0, 0], np.linspace(0, 1, 9), atol=1e-6)


def test_bicubic_antialiases_when_shrinking():
    stripes = np.tile([0.0, 1.0], 16)[None, None, :, None] * np.ones((1, 8, 1, 1))
    small = np.asarray(quick_jit(lambda x: resize_bicubic(x, (2, 8)))(stripes))
    np.testing.assert_allclose(small[0, :, 2:-2], 0.5, atol=1e-5)


def matlab(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One output pixel at a time, from the definition: stretched Keys kernel, mirrored borders."""

    def cubic(x):
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    def line(values, n_out):
        n = len(values)
        s = n_out / n
        stretch = max(1 / s, 1.0)
        out = []
        for i in range(n_out):
            centre = (i + 0.5) / s - 0.5
            taps = range(int(np.floor(centre - 2 * stretch)) - 1, int(np.ceil(centre + 2 * stretch)) + 2)
            weights = np.array([cubic((centre - t) / stretch) for t in taps])
            mirrored = [t % (2 * n) if t % (2 * n) < n else 2 * n - 1 - t % (2 * n) for t in taps]
            out.append((weights / weights.sum()) @ values[mirrored])
        return np.array(out)

    rows = np.stack([line(image[:, x], size[0]) for x in range(image.shape[1])], axis=1)
    return np.stack([line(rows[y], size[1]) for y in range(size[0])], axis=0)


@pytest.mark.parametrize("size", [(3, 4), (12, 16), (9, 5), (24, 31), (1, 1)])
def test_imresize_equals_its_definition(rng, size):
    image = rng.uniform(0, 1, (12, 16, 2))
    np.testing.assert_allclose(imresize(image, size=size), matlab(image, size), atol=1e-12)


def test_imresize_of_bytes_rounds_half_up_and_clips(rng):
    image = rng.integers(0, 2, (16, 20, 3)).astype(np.uint8) * 255
    exact = imresize(image.astype(np.float64), scale=2.0)
    assert exact.min() < 0
    assert exact.max() > 255
    np.testing.assert_array_equal(imresize(image, 2.0), np.clip(np.floor(exact + 0.5), 0, 255))


@pytest.mark.parametrize("size", [(16, 24), (64, 24), (21, 33), (14, 80), (8, 12), (100, 130)])
@pytest.mark.parametrize("levels", [2, 256])
def test_imresize_of_bytes_equals_rounded_float64(rng, size, levels):
    image = (rng.integers(0, levels, (64, 96, 3)) * (255 // (levels - 1))).astype(np.uint8)
    exact = np.floor(imresize(image.astype(np.float64), size=size) + 0.5)
    np.testing.assert_array_equal(imresize(image, size=size), np.clip(exact, 0, 255))


@pytest.mark.parametrize("width", [64, 400])
def test_imresize_rounds_halves_up_where_float32_is_too_coarse(width):
    # Either every value is a half, or only a few are.
    image = np.zeros((64, width, 3), np.uint8)
    image[:, :8:2] = 1
    image[:, 8:64:2] = 1 if width == 64 else 0
    exact = np.floor(imresize(image.astype(np.float64), 0.25) + 0.5)
    np.testing.assert_array_equal(imresize(image, 0.25), np.clip(exact, 0, 255))


def test_imresize_keeps_constants_and_rounds_sizes_up():
    out = imresize(np.full((10, 7, 3), 77, np.uint8), 0.25)
    assert out.shape == (3, 2, 3)
    assert (out == 77).all()


def test_imresize_takes_one_of_scale_and_size():
    image = np.zeros((4, 4, 1))
    with pytest.raises(ValueError, match="either"):
        imresize(image)
    with pytest.raises(ValueError, match="either"):
        imresize(image, 2.0, (8, 8))
