"""Which frames and crops are shown."""

import numpy as np
import pytest

from ldip_jax.report.comparison import choose_crops, shown_frames
from ldip_jax.report.content import Crop


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(1, 8, [0]), (2, 8, [0, 1]), (5, 3, [0, 2, 4]), (100, 4, [0, 33, 66, 99]), (9, 1, [0])],
)
def test_frames_are_spread_over_the_clip(count, most, expected):
    assert shown_frames(count, most) == expected


def test_crops_are_placed_apart_and_where_the_methods_differ(rng):
    base = rng.integers(0, 256, (90, 120, 3), np.uint8)
    other = base.copy()
    other[50:60, 100:110] = 255 - other[50:60, 100:110]
    other[5:15, 5:15] = np.clip(base[5:15, 5:15].astype(int) + 9, 0, 255)
    first, second = choose_crops([base, base, other], frame=4, count=2, side=20)
    for crop, (x, y) in ((first, (100, 50)), (second, (5, 5))):
        assert crop.frame == 4
        assert crop.x <= x <= x + 10 <= crop.x + 20
        assert crop.y <= y <= y + 10 <= crop.y + 20


def test_equal_methods_show_the_strongest_edges():
    flat = np.full((60, 80, 3), 90, np.uint8)
    flat[40:50:2, 60:70] = 200
    (crop,) = choose_crops([flat, flat], frame=0, count=1, side=16)
    assert crop.x <= 60 < 70 <= crop.x + 16
    assert crop.y <= 40 < 49 <= crop.y + 16


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (8, 300), (200, 64)])
def test_any_size_gives_crops_inside_that_do_not_overlap(rng, shape):
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    crops = choose_crops([image], frame=0, count=3)
    assert 1 <= len(crops) <= 3
    covered = np.zeros(shape, int)
    for crop in crops:
        assert crop.cut(image).shape == (min(64, *shape), min(64, *shape), 3)
        covered[crop.y : crop.y + crop.side, crop.x : crop.x + crop.side] += 1
    assert covered.max() == 1


@pytest.mark.parametrize("crop", [Crop(0, -1, 0, 4), Crop(0, 5, 0, 4), Crop(0, 0, 7, 4)])
def test_a_crop_outside_the_image_is_refused(crop):
    with pytest.raises(ValueError, match="inside"):
        crop.cut(np.zeros((8, 8, 3), np.uint8))
