"""Every kind of still image is read exactly, and other files are refused."""

import os
import struct
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image, ImageCms

from ldip_jax.errors import InputError
from ldip_jax.media.image_files import NotAnImageError
from ldip_jax.media.images import image_info, read_image, write_png
from tests.media.make import smooth

# First row, first column, and steps of the passes of an interlaced PNG.
ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def png(path, width, height, bits, kind, rows, extra=b"", interlace=0):
    """A PNG from its raw rows, whether or not Pillow can write it."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlace)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    return path


@pytest.fixture
def picture(rng):
    return rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (4, 2), (2, 3), (6, 4)])
def test_png_of_16_bits(tmp_path, rng, kind, channels):
    samples = rng.integers(0, 65536, (7, 9, channels)).astype(">u2")
    path = png(tmp_path / "a.png", 9, 7, 16, kind, [row.tobytes() for row in samples])
    rgb, notes = read_image(path)
    assert rgb.dtype == np.float32
    colours = samples[..., : 3 if channels > 2 else 1].astype(int)
    np.testing.assert_array_equal(np.rint(rgb * 65535), np.broadcast_to(colours, (7, 9, 3)))
    assert ("alpha dropped" in notes) == (channels in (2, 4))
    assert ("grey to RGB" in notes) == (channels < 3)
    assert image_info(path).bits == 16


def test_interlaced_png_of_16_bits(tmp_path, rng):
    samples = rng.integers(0, 65536, (8, 8, 3)).astype(">u2")
    rows = [row.tobytes() for y, x, dy, dx in ADAM7 for row in samples[y::dy, x::dx]]
    rgb, _ = read_image(png(tmp_path / "a.png", 8, 8, 16, 2, rows, interlace=1))
    np.testing.assert_array_equal(np.rint(rgb * 65535), samples.astype(int))


def test_interlaced_png(tmp_path, rng):
    samples = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    rows = [row.tobytes() for y, x, dy, dx in ADAM7 for row in samples[y::dy, x::dx]]
    rgb, notes = read_image(png(tmp_path / "a.png", 8, 8, 8, 2, rows, interlace=1))
    np.testing.assert_array_equal(np.rint(rgb * 255), samples)
    assert notes == []


def test_png_of_one_and_of_four_bits(tmp_path):
    rgb, notes = read_image(png(tmp_path / "a.png", 8, 2, 1, 0, [b"\xaa", b"\x0f"]))
    assert rgb[0, :, 1].tolist() == [1, 0, 1, 0, 1, 0, 1, 0]
    assert notes == ["grey to RGB"]
    rgb, _ = read_image(png(tmp_path / "b.png", 2, 1, 4, 0, [b"\x0f"]))
    assert rgb[0, :, 0].tolist() == [0, 1]


def test_palette_with_a_transparent_entry(tmp_path):
    image = Image.new("P", (4, 3), 2)
    image.putpalette([0, 0, 0, 255, 0, 0, 10, 200, 30])
    image.save(tmp_path / "a.png", transparency=0)
    rgb, notes = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(np.rint(rgb * 255), np.full((3, 4, 3), (10, 200, 30)))
    assert notes == ["alpha dropped"]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".webp", ".ppm", ".tga"])
def test_lossless_formats_are_exact(tmp_path, picture, suffix):
    Image.fromarray(picture).save(
        tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {})
    )
    rgb, notes = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(np.rint(rgb * 255), picture)
    assert rgb.flags.c_contiguous
    assert notes == []


@pytest.mark.parametrize("compression", ["raw", "lzw", "deflate"])
@pytest.mark.parametrize("layout", ["rgb48le", "gray16le"])
def test_tiff_of_16_bits(tmp_path, rng, compression, layout):
    channels = 3 if layout == "rgb48le" else 1
    samples = rng.integers(0, 65536, (7, 10, channels)).astype(np.uint16)
    encoder = av.VideoCodecContext.create("tiff", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 10, 7, layout, Fraction(1, 25)
    encoder.options = {"compression_algo": compression}
    frame = av.VideoFrame.from_ndarray(samples if channels == 3 else samples[..., 0], layout)
    (tmp_path / "a.tif").write_bytes(b"".join(map(bytes, [*encoder.encode(frame), *encoder.encode(None)])))
    rgb, _ = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.rint(rgb * 65535), np.broadcast_to(samples.astype(int), (7, 10, 3)))


def test_alpha_does_not_change_the_colour(tmp_path, picture):
    rgba = np.concatenate([picture, np.zeros_like(picture[..., :1])], axis=-1)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    rgb, notes = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(np.rint(rgb * 255), picture)
    assert notes == ["alpha dropped"]


def test_grey(tmp_path, picture):
    Image.fromarray(picture[..., 0]).save(tmp_path / "a.png")
    rgb, notes = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(np.rint(rgb * 255), picture[..., :1].repeat(3, axis=-1))
    assert notes == ["grey to RGB"]


@pytest.mark.parametrize("suffix", [".tif", ".jpg"])
def test_cmyk_is_the_right_way_round(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path)
    # JPEG holds the inks inverted, under Adobe's marker.
    assert (b"Adobe" in path.read_bytes()) == (suffix == ".jpg")
    rgb, notes = read_image(path)
    np.testing.assert_allclose(rgb.mean((0, 1)), [1, 0, 0], atol=0.02)
    assert notes == ["CMYK to RGB"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_exif_orientation(tmp_path, rng, orientation, suffix):
    image = Image.fromarray(np.rint(smooth(rng, 16, 24) * 255).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"a{suffix}", exif=exif)
    rgb, notes = read_image(tmp_path / f"a{suffix}")
    expected = Image.open(tmp_path / f"a{suffix}").convert("RGB")
    if orientation > 1:
        methods = {
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_270,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_90,
        }
        expected = expected.transpose(methods[orientation])
    np.testing.assert_array_equal(np.rint(rgb * 255), np.asarray(expected))
    info = image_info(tmp_path / f"a{suffix}")
    assert (info.height, info.width) == rgb.shape[:2]
    assert notes == info.notes == ([] if orientation == 1 else ["turned upright as its EXIF data say"])


def matrix_profile(gamma):
    """A display profile with sRGB primaries and another tone curve."""
    curve = struct.pack(">4sII", b"curv", 0, 1) + struct.pack(">H", round(gamma * 256)) + b"\0\0"
    xyz = [
        (0.9642, 1.0, 0.8249),
        (0.4361, 0.2225, 0.0139),
        (0.3851, 0.7169, 0.0971),
        (0.1431, 0.0606, 0.7141),
    ]

    def point(values):
        return struct.pack(">4sI3i", b"XYZ ", 0, *(round(v * 65536) for v in values))

    text = b"gamma test"
    description = struct.pack(">4sII", b"desc", 0, len(text) + 1) + text + bytes(1 + 4 + 4 + 2 + 1 + 67)
    description += bytes(-len(description) % 4)
    tags = [(b"desc", description), (b"cprt", struct.pack(">4sI", b"text", 0) + b"none")]
    tags += [(n, point(v)) for n, v in zip((b"wtpt", b"rXYZ", b"gXYZ", b"bXYZ"), xyz, strict=True)]
    tags += [(n, curve) for n in (b"rTRC", b"gTRC", b"bTRC")]
    offset, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags:
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", offset + len(body), b"none", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", *(round(v * 65536) for v in xyz[0])) + bytes(48)
    return head[:128] + struct.pack(">I", len(tags)) + table + body


def test_another_colour_profile_is_converted(tmp_path):
    image = Image.fromarray(np.full((8, 8, 3), 128, np.uint8))
    image.save(tmp_path / "a.png", icc_profile=matrix_profile(1.0))
    rgb, notes = read_image(tmp_path / "a.png")
    # Half of the light has code 188 in sRGB.
    np.testing.assert_allclose(rgb * 255, 188, atol=1.1)
    assert notes == ["colours converted from gamma test to sRGB"]


def test_srgb_profiles_and_broken_ones_change_nothing(tmp_path, picture):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, profile, note in (
        ("a", srgb, []),
        ("b", b"junk" * 50, ["its colour profile is damaged and ignored"]),
    ):
        Image.fromarray(picture).save(tmp_path / f"{name}.png", icc_profile=profile)
        rgb, notes = read_image(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(np.rint(rgb * 255), picture)
        assert notes == note


def test_a_profile_for_another_kind_of_image_is_ignored(tmp_path, picture):
    Image.fromarray(picture[..., 0]).save(tmp_path / "a.png", icc_profile=matrix_profile(1.0))
    rgb, notes = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(np.rint(rgb[..., 0] * 255), picture[..., 0])
    assert "its RGB colour profile does not fit and is ignored" in notes


def test_16_bits_with_a_profile_are_converted_with_a_note(tmp_path):
    profile = matrix_profile(1.0)
    data = b"icc\0\0" + zlib.compress(profile)
    chunk = struct.pack(">I", len(data)) + b"iCCP" + data + struct.pack(">I", zlib.crc32(b"iCCP" + data))
    row = np.full((8, 3), 128 * 257, ">u2").tobytes()
    rgb, notes = read_image(png(tmp_path / "a.png", 8, 8, 16, 2, [row] * 8, extra=chunk))
    np.testing.assert_allclose(rgb * 255, 188, atol=1.1)
    assert "16 bits reduced to 8 by the colour conversion" in notes


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_truncated_files_are_refused(tmp_path, rng, suffix, part):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_files_of_16_bits_are_refused(tmp_path, rng):
    samples = rng.integers(0, 65536, (32, 32, 3)).astype(">u2")
    path = png(tmp_path / "a.png", 32, 32, 16, 2, [row.tobytes() for row in samples])
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 4
    for damaged in (data[: len(data) // 2], bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"a\.png: cannot be read as an image"):
            read_image(path)


@pytest.mark.parametrize("data", [b"", b"hello world\n" * 40, b"\x89PNG\r\n\x1a\n", bytes(100)])
def test_files_that_are_not_images_are_refused(tmp_path, data):
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.png"):
        read_image(path)
    if not data.startswith(b"\x89"):
        with pytest.raises(NotAnImageError):
            image_info(path)


def test_too_many_pixels_are_refused(tmp_path):
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + bytes(4))
    with pytest.raises(InputError, match=r"bomb\.png: has more than \d+ million pixels"):
        read_image(path)


def test_missing_files_folders_and_floats_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(InputError, match="32-bit samples"):
        read_image(tmp_path / "f.tif")


@pytest.mark.parametrize("bits", [8, 16])
def test_write_png_is_exact(tmp_path, rng, bits):
    top = (1 << bits) - 1
    codes = rng.integers(0, top + 1, (5, 7, 3))
    codes[0, :2] = [[0] * 3, [top] * 3]
    write_png(tmp_path / "a.png", codes.astype(np.float32) / np.float32(top), bit_depth=bits)
    rgb, notes = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(np.rint(rgb * top), codes)
    assert notes == []
    assert image_info(tmp_path / "a.png").bits == bits


def test_write_png_rounds_and_clips(tmp_path):
    frame = np.array([[[-1, 0.5 / 255, 0.51 / 255], [2, 1, 254.49 / 255]]], np.float32)
    write_png(tmp_path / "a.png", frame)
    with Image.open(tmp_path / "a.png") as image:
        assert np.asarray(image).tolist() == [[[0, 0, 1], [255, 255, 254]]]


def test_a_failed_write_png_is_reported_and_leaves_nothing(tmp_path, monkeypatch):
    frame = np.zeros((4, 4, 3), np.float32)
    with pytest.raises(InputError, match="bit depth 12"):
        write_png(tmp_path / "a.png", frame, bit_depth=12)
    with pytest.raises(InputError, match="cannot be written"):
        write_png(tmp_path / "none" / "a.png", frame)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        write_png(tmp_path / "a.png", frame)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_avif_is_refused(tmp_path, rng):
    path = tmp_path / "a.avif"
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3] + bytes(len(data) // 3))
    with pytest.raises(InputError, match=r"a\.avif: cannot be read as an image \(.*\); it may be") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_a_small_file_of_a_huge_image_is_refused_unread(tmp_path):
    path = tmp_path / "a.png"
    Image.new("1", (13000, 13000)).save(path)
    assert path.stat().st_size < 100_000
    for read in (image_info, read_image):
        with pytest.raises(
            InputError, match=r"a\.png: claims 13000x13000 pixels, far more than its size allows"
        ):
            read(path)
