"""Colour arithmetic against the published codes of colour bars."""

import numpy as np
import pytest

from ldip_jax.media.color import BT709, UNSAID, Color, assume_color, quantise, rgb_to_yuv, yuv_to_rgb

# Full-amplitude bars: white, yellow, cyan, green, magenta, red, blue, black.
RGB = np.array(
    [[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0], [1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0]], np.float32
)[None]
BARS = {
    6: "235 128 128  210 16 146  170 166 16  145 54 34  106 202 222  81 90 240  41 240 110  16 128 128",
    1: "235 128 128  219 16 138  188 154 16  173 42 26  78 214 230  63 102 240  32 240 118  16 128 128",
}
BARS = {matrix: np.array(codes.split(), int).reshape(8, 3) for matrix, codes in BARS.items()}


def tags(matrix, full=False, bits=8):
    return Color(matrix=matrix, primaries=1, transfer=1, full_range=full, bits=bits)


@pytest.mark.parametrize("matrix", [1, 6])
def test_bars_have_their_published_codes(matrix):
    codes = rgb_to_yuv(RGB, tags(matrix))
    np.testing.assert_array_equal(codes[:, 0].T, BARS[matrix])
    assert codes.dtype == np.uint8
    back = yuv_to_rgb(list(codes), tags(matrix))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, RGB, atol=1.2 / 255)


def test_ten_bit_codes_are_four_times_the_eight_bit_codes():
    codes = rgb_to_yuv(RGB, tags(1, bits=10))
    assert codes.dtype == np.uint16
    np.testing.assert_allclose(codes[:, 0].T, 4 * BARS[1], atol=2)


@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 9])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("bits", "worst"), [(8, 1.9), (10, 0.5), (12, 0.13)])
def test_round_trip(rng, matrix, full, bits, worst):
    rgb = rng.random((40, 50, 3), dtype=np.float32)
    color = tags(matrix, full, bits)
    difference = 255 * (yuv_to_rgb(list(rgb_to_yuv(rgb, color)), color) - rgb)
    assert np.abs(difference).max() < worst
    assert np.abs(difference.mean((0, 1))).max() < 0.05


def test_full_range_uses_every_code():
    codes = rgb_to_yuv(RGB, tags(6, full=True))
    assert codes[0].min() == 0
    assert codes[0].max() == 255
    grey = yuv_to_rgb([np.full((1, 1), v, np.uint8) for v in (16, 128, 128)], tags(6, full=True))
    np.testing.assert_allclose(grey, 16 / 255, atol=1e-6)


def test_values_out_of_range_are_clipped_both_ways():
    codes = rgb_to_yuv(np.array([[[-3, -3, -3], [9, 9, 9]]], np.float32), tags(1))
    assert codes[0].tolist() == [[16, 235]]
    rgb = yuv_to_rgb([np.array([[255, 0]], np.uint8)] + [np.array([[240, 16]], np.uint8)] * 2, tags(1))
    assert rgb.min() >= 0
    assert rgb.max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
def test_quantise_restores_every_code(bits):
    top = (1 << bits) - 1
    codes = np.arange(top + 1).reshape(-1, 1, 1).repeat(3, axis=2)
    np.testing.assert_array_equal(quantise(codes.astype(np.float32) / np.float32(top), bits), codes)


@pytest.mark.parametrize(
    ("height", "width", "matrix", "primaries"),
    [
        (480, 720, 6, 6),
        (576, 720, 5, 5),
        (288, 352, 5, 5),
        (240, 320, 6, 6),
        (720, 1280, 1, 1),
        (600, 400, 1, 1),
    ],
)
def test_untagged_clips_follow_their_size(height, width, matrix, primaries):
    color = assume_color(Color(UNSAID, UNSAID, UNSAID, False, 8), height, width)
    assert (color.matrix, color.primaries) == (matrix, primaries)


def test_tags_are_kept():
    assert assume_color(BT709, 480, 720) == BT709
    wide = assume_color(Color(UNSAID, 9, 16, False, 10), 480, 720)
    assert (wide.matrix, wide.transfer, wide.hdr) == (9, 16, "PQ")
    partly = assume_color(Color(UNSAID, UNSAID, 13, False, 8), 480, 720)
    assert (partly.matrix, partly.primaries, partly.transfer) == (6, UNSAID, 13)
