"""The side-by-side picture."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from ldip_jax.report.comparison import draw_comparison, write_comparison
from ldip_jax.report.content import Crop, Method


def contains(picture, part):
    """Whether `part` lies somewhere in `picture`, pixel by pixel."""
    h, w = part.shape[:2]
    corners = picture[: len(picture) - h + 1, : picture.shape[1] - w + 1]
    candidates = np.argwhere((corners == part[0, 0]).all(-1))
    return any((picture[y : y + h, x : x + w] == part).all() for y, x in candidates)


def methods(rng, count, h, w):
    frames = [[rng.integers(0, 256, (h, w, 3), np.uint8) for _ in range(2)] for _ in range(count)]
    return [Method(f"method {index}", images, 30.0, 0.9, note="new") for index, images in enumerate(frames)]


def test_each_method_shows_its_frame_and_its_crops(rng):
    given = methods(rng, 4, 60, 330)
    crops = [Crop(1, 5, 6, 20), Crop(1, 100, 30, 20)]
    picture = draw_comparison(given, crops, columns=3)
    for method in given:
        for crop in crops:
            enlarged = crop.cut(method.images[1]).repeat(7, 0).repeat(7, 1)
            assert contains(picture, enlarged)
        # Between the two marks, the frame is unchanged.
        assert contains(picture, method.images[1][:, 30:95])
    one_row = draw_comparison(given[:3], crops, columns=3)
    assert picture.shape[1] == one_row.shape[1]
    assert picture.shape[0] == 2 * one_row.shape[0] - 8


def test_a_crop_and_its_mark_share_a_colour(rng):
    grey = [Method("grey", [np.full((100, 400, 3), 128, np.uint8)])]
    picture = draw_comparison(grey, [Crop(0, 40, 30, 50)])
    mark = (picture == ImageColor.getrgb("#e4572e")).all(-1)
    rows, columns = np.nonzero(mark[: 8 + 49 + 100])
    assert (rows.min() - 8 - 49, columns.min() - 8) == (30, 40)
    assert (rows.max() - 8 - 49, columns.max() - 8) == (79, 89)
    assert mark[8 + 49 + 100 :].any()


@pytest.mark.parametrize("size", [(8, 8), (40, 2000), (700, 30)])
def test_any_size_can_be_drawn(rng, size):
    given = [Method("a very long name " * 20, m.images) for m in methods(rng, 1, *size)]
    picture = draw_comparison(given, [Crop(0, 0, 0, 8)], columns=5)
    assert picture.shape[1] == 16 + min(640, max(320, size[1]))


def test_what_cannot_be_compared_is_refused(rng):
    given = methods(rng, 2, 20, 20)
    for these, crops in (
        (given, []),
        ([], [Crop(0, 0, 0, 8)]),
        (given, [Crop(0, 0, 0, 8), Crop(1, 0, 0, 8)]),
    ):
        with pytest.raises(ValueError, match="needs methods"):
            draw_comparison(these, crops)


def test_the_picture_is_written_as_png(rng, tmp_path):
    given, crops = methods(rng, 2, 20, 20), [Crop(0, 0, 0, 8)]
    write_comparison(tmp_path / "c.png", given, crops)
    with Image.open(tmp_path / "c.png") as image:
        np.testing.assert_array_equal(np.asarray(image), draw_comparison(given, crops))
