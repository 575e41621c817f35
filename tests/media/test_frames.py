"""Frame layouts, chroma positions and bit depths."""

import av
import numpy as np
import pytest

from ldip_jax.media.color import BT709, SRGB, Color
from ldip_jax.media.frames import FromRgb, ToRgb, bits_of
from tests.media.make import from_planes, smooth


def codes(height, width, luma, chroma, dtype=np.uint8):
    planes = np.empty((3, height, width), dtype)
    planes[0], planes[1], planes[2] = luma, chroma, 128 * (np.iinfo(dtype).max // 255 or 1)
    return planes


@pytest.mark.parametrize(("centred", "shift"), [(False, 0.0), (True, 0.5)])
@pytest.mark.parametrize("layout", ["yuv420p", "yuv422p"])
def test_chroma_positions_follow_the_format(layout, centred, shift):
    # A ramp of blue whose chroma samples lie on every second pixel, or between two.
    ramp = 60 + 2 * np.arange(48)
    planes = codes(16, 48, 128, ramp)
    rgb = ToRgb(BT709, centred)(from_planes(planes, layout))
    blue = 2 * (1 - 0.0722) * (ramp - 2 * shift - 128) / 224
    np.testing.assert_allclose(rgb[8, 8:40, 2], (128 - 16) / 219 + blue[8:40], atol=1.5 / 255)


@pytest.mark.parametrize(
    "layout", ["yuv420p", "yuv422p", "yuv444p", "nv12", "yuyv422", "yuv411p", "yuva420p", "uyvy422"]
)
def test_every_layout_gives_the_same_flat_colours(layout):
    flat = from_planes(codes(32, 32, 100, 180), "yuv444p").reformat(format=layout)
    rgb = ToRgb(BT709, False)(flat)
    expected = ToRgb(BT709, False)(from_planes(codes(32, 32, 100, 180), "yuv444p"))
    np.testing.assert_allclose(rgb, expected, atol=1e-6)


@pytest.mark.parametrize("layout", ["yuv420p10le", "yuv444p10le", "p010le", "yuv422p12le", "yuv420p16le"])
def test_high_bit_depths_keep_their_levels(layout):
    bits = bits_of(av.VideoFormat(layout))
    black, white = 16 << (bits - 8), 235 << (bits - 8)
    luma = np.linspace(black, white, 400).astype(np.uint16).reshape(20, 20)
    planes = np.full((3, 20, 20), 128 << (bits - 8), np.uint16)
    planes[0] = luma
    frame = from_planes(planes, layout.replace("p010le", "yuv420p10le"))
    color = Color(matrix=1, primaries=1, transfer=1, full_range=False, bits=bits)
    rgb = ToRgb(color, False)(frame if frame.format.name == layout else frame.reformat(format=layout))
    np.testing.assert_allclose(rgb[..., 1], (luma - np.float32(black)) / (white - black), atol=1e-5)
    assert len(np.unique(rgb[..., 1])) > 390


@pytest.mark.parametrize("layout", ["rgb24", "bgr24", "bgr0", "rgba", "gbrp"])
def test_rgb_is_exact(rng, layout):
    picture = rng.integers(0, 256, (9, 13, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=layout)
    np.testing.assert_array_equal(np.rint(ToRgb(SRGB, False)(frame) * 255), picture)


@pytest.mark.parametrize(("layout", "bits"), [("gbrp10le", 10), ("gbrp12le", 12), ("gbrp16le", 16)])
def test_planar_rgb_of_high_bit_depth_is_exact(rng, layout, bits):
    planes = rng.integers(0, 1 << bits, (3, 9, 13)).astype(np.uint16)
    rgb = ToRgb(SRGB, False)(from_planes(planes, layout))
    np.testing.assert_array_equal(np.rint(rgb * ((1 << bits) - 1)), planes[[2, 0, 1]].transpose(1, 2, 0))


@pytest.mark.parametrize("layout", ["rgb48le", "rgb48be"])
def test_packed_rgb_of_16_bits_is_exact(rng, layout):
    picture = rng.integers(0, 65536, (9, 13, 3)).astype(np.uint16)
    rgb = ToRgb(SRGB, False)(av.VideoFrame.from_ndarray(picture, layout))
    np.testing.assert_array_equal(np.rint(rgb * 65535), picture)


@pytest.mark.parametrize("matrix", [1, 5, 6, 9])
@pytest.mark.parametrize("span", [1, 2])
def test_tags_on_the_frame_are_ignored(rng, matrix, span):
    planes = codes(16, 16, rng.integers(16, 236, (16, 16)), 120)
    frame = from_planes(planes, "yuv420p")
    frame.colorspace, frame.color_range = matrix, span
    rgb = ToRgb(BT709, False)(frame)
    np.testing.assert_allclose(rgb, ToRgb(BT709, False)(from_planes(planes, "yuv444p")), atol=1e-6)
    assert np.ptp(rgb[..., 0]) == pytest.approx(np.ptp(planes[0]) / 219, abs=0.02)


def test_a_palette_and_grey(rng):
    grey = av.VideoFrame.from_ndarray(rng.integers(16, 236, (8, 10), dtype=np.uint8), "gray")
    rgb = ToRgb(BT709, False)(grey)
    np.testing.assert_allclose(rgb, (grey.to_ndarray()[..., None] - 16.0) / 219 * np.ones(3), atol=1e-6)
    palette = np.zeros((256, 4), np.uint8)
    palette[7] = (255, 10, 20, 30)
    frame = av.VideoFrame.from_ndarray((np.full((6, 8), 7, np.uint8), palette), "pal8")
    np.testing.assert_allclose(ToRgb(SRGB, False)(frame) * 255, np.full((6, 8, 3), (10, 20, 30)), atol=1e-4)


@pytest.mark.parametrize("size", [(2, 2), (8, 8), (37, 53), (36, 52)])
@pytest.mark.parametrize("layout", ["yuv420p", "yuv444p"])
def test_smooth_pictures_survive_conversion_to_an_encoder_layout(rng, size, layout):
    picture = smooth(rng, *size)
    rgb = ToRgb(BT709, False)(FromRgb(BT709, layout)(picture))
    assert rgb.shape == picture.shape
    difference = 255 * (rgb - picture)[2:-2, 2:-2] if min(size) > 8 else np.zeros((1, 1, 3))
    assert np.abs(difference.mean((0, 1))).max() < 0.3
    assert np.abs(difference).max() < (3 if layout == "yuv444p" else 12)
