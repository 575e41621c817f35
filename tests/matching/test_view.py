"""Where the view of a still lies relative to that of a frame: wider, narrower or unrelated."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ldip_jax.matching.view import View, correlation, find_view, reframe

SCENE = (360, 640)


def scene(seed, size=SCENE):
    """Noise at all scales, as in natural images."""
    rng = np.random.default_rng(seed)
    total = np.zeros((*size, 3), np.float32)
    for level in range(1, 8):
        coarse = rng.random((size[0] // 2**level + 2, size[1] // 2**level + 2, 3))
        image = Image.fromarray((coarse * 255).astype(np.uint8)).resize(size[::-1], Image.Resampling.BICUBIC)
        total += np.asarray(image, np.float32) / 255
    total -= total.min()
    return total / total.max()


def cut(image, box, size):
    top, left, height, width = box
    part = Image.fromarray((image[top : top + height, left : left + width] * 255).astype(np.uint8))
    return np.asarray(part.resize(size[::-1], Image.Resampling.LANCZOS), np.float32) / 255


def overlap(a, b):
    """Intersection over union."""
    inner = [max(0, min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    shared = inner[0] * inner[1]
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def padded(box, margin=0.12):
    top, left, height, width = box
    return top - margin * height, left - margin * width, (1 + 2 * margin) * height, (1 + 2 * margin) * width


@pytest.mark.parametrize("box", [(0, 0, 180, 320), (150, 290, 120, 213), (200, 30, 90, 160)])
def test_a_frame_is_found_in_a_still_that_shows_more(box):
    image = scene(0)
    # The frame is soft, like a small one that a network has upscaled.
    frame = cut(cut(image, box, (36, 64)), (0, 0, 36, 64), (144, 256))
    view = find_view(frame, image)
    assert view is not None
    assert overlap(view, padded(box)) > 0.85
    assert view.score > 0.7


@pytest.mark.parametrize("box", [(60, 100, 180, 320), (0, 400, 120, 213)])
def test_a_still_that_shows_less_is_found_in_the_frame(box):
    image = scene(1)
    frame, still = cut(image, (0, 0, *SCENE), (144, 256)), cut(image, box, (300, 533))
    view = find_view(frame, still)
    assert view is not None
    factor = 300 / box[2]
    whole = (-box[0] * factor, -box[1] * factor, SCENE[0] * factor, SCENE[1] * factor)
    assert overlap(view, padded(whole)) > 0.85


def test_an_absent_view_is_not_found():
    frame = cut(scene(2), (0, 0, *SCENE), (144, 256))
    assert find_view(frame, scene(3)) is None
    for still in (np.zeros((90, 160, 3), np.float32), np.full((5, 7, 3), 0.5, np.float32)):
        assert find_view(frame, still) is None
    assert find_view(np.full((72, 128, 3), 0.25, np.float32), scene(3)) is None
    # A strip, which would be enlarged to a gigabyte.
    assert find_view(frame, np.random.default_rng(0).random((2, 9000, 3), np.float32)) is None


def test_correlation_is_1_at_the_true_place_at_any_brightness_and_contrast():
    field = np.random.default_rng(4).standard_normal((20, 30))
    scores = correlation(field, 3.0 * field[5:13, 11:21] + 7.0)
    assert scores.shape == (13, 21)
    assert np.unravel_index(scores.argmax(), scores.shape) == (5, 11)
    np.testing.assert_allclose(scores[5, 11], 1.0, atol=1e-6)
    window = field[2:10, 3:13]
    one = np.corrcoef(window.ravel(), field[5:13, 11:21].ravel())[0, 1]
    np.testing.assert_allclose(scores[2, 3], one, atol=1e-6)


def test_a_still_is_cropped_to_a_view_within_it():
    still = np.random.default_rng(5).random((40, 60, 3), np.float32)
    shown = reframe(still, View(10, 20, 16, 24, 1.0), (16, 24))
    np.testing.assert_array_equal(shown.image, still[10:26, 20:44])
    assert shown.still_box == (0, 0, 16, 24)


def test_a_view_beyond_the_still_is_grey_and_holds_nothing_there():
    still = np.random.default_rng(6).random((8, 12, 3), np.float32)
    shown = reframe(still, View(-4, -6, 16, 24, 1.0), (16, 24))
    assert shown.still_box == (4, 6, 12, 18)
    np.testing.assert_array_equal(shown.image[4:12, 6:18], still)
    assert np.all(shown.image[:4] == 0.5)
    assert np.all(shown.image[:, 18:] == 0.5)
    places = jnp.array([[[[6.0, 4.0], [17.0, 11.0], [5.0, 4.0], [6.0, 12.0]]]])
    np.testing.assert_array_equal(shown.holds(places)[0, 0, :, 0], [1, 1, 0, 0])


def test_a_view_much_denser_than_the_frame_is_reduced():
    still = np.full((400, 600, 3), 0.25, np.float32)
    shown = reframe(still, View(-400, -600, 1200, 1800, 1.0), (100, 150))
    assert shown.image.shape == (200, 300, 3)
    top, left, bottom, right = shown.still_box
    assert (bottom - top, right - left) == (67, 100)
    np.testing.assert_allclose(shown.image[top:bottom, left:right], 0.25, atol=1e-3)
