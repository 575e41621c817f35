"""Stills that are tagged with a colour space other than sRGB."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ldip_jax.errors import InputError
from ldip_jax.media.images import image_info, read_image
from ldip_jax.media.reader import open_clip
from tests.media.test_images import matrix_profile, png

RED = (200, 60, 60)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def flat(path, color, extra=b"", bits=8):
    codes = np.full((8, 8, 3), color, ">u2" if bits == 16 else "u1") * (257 if bits == 16 else 1)
    dtype = ">u2" if bits == 16 else "u1"
    return png(path, 8, 8, bits, 2, [row.astype(dtype).tobytes() for row in codes], extra=extra)


def read(path):
    rgb, notes = read_image(path)
    assert rgb.dtype == np.float32
    assert np.ptp(rgb, axis=(0, 1)).max() < 0.03
    return np.rint(255 * rgb.mean((0, 1))), notes


def adobe(path, index="R03", space=0xFFFF, **options):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = space
    exif.get_ifd(0x8769)[0xA005] = {1: index}
    Image.new("RGB", (16, 16), (172, 62, 61)).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_adobe_rgb_by_exif(tmp_path, name):
    options = {"a.jpg": {"quality": 100}, "a.webp": {"lossless": True}}.get(name, {})
    color, notes = read(adobe(tmp_path / name, **options))
    np.testing.assert_allclose(color, RED, atol=2)
    assert "colours converted from Adobe RGB to sRGB" in notes
    for index, space in (("R98", 1), ("R98", 0xFFFF), ("", 0xFFFF)):
        color, notes = read(adobe(tmp_path / name, index, space, **options))
        np.testing.assert_allclose(color, (172, 62, 61), atol=2)
        assert notes == []


# The sRGB colour (200, 60, 60) in Display P3, as colour management systems compute it.
P3 = (185, 71, 66)


@pytest.mark.parametrize("bits", [8, 16])
def test_png_cicp(tmp_path, bits):
    path = flat(tmp_path / "a.png", P3, chunk(b"cICP", bytes([12, 13, 0, 1])), bits)
    color, notes = read(path)
    np.testing.assert_allclose(color, RED, atol=1)
    assert notes == ["colours converted from Display P3 to sRGB"]
    assert image_info(path).bits == bits
    color, notes = read(flat(tmp_path / "b.png", RED, chunk(b"cICP", bytes([1, 13, 0, 1]))))
    assert (color.tolist(), notes) == (list(RED), [])


def test_cicp_overrides_a_profile(tmp_path):
    profile = chunk(b"iCCP", b"icc\0\0" + zlib.compress(matrix_profile(1.0)))
    color, _ = read(flat(tmp_path / "a.png", P3, chunk(b"cICP", bytes([12, 13, 0, 1])) + profile))
    np.testing.assert_allclose(color, RED, atol=1)


def test_png_gamma(tmp_path):
    color, notes = read(flat(tmp_path / "a.png", (128, 128, 128), chunk(b"gAMA", struct.pack(">I", 100_000))))
    # Half of the light has code 188 in sRGB.
    np.testing.assert_allclose(color, 188, atol=1)
    assert notes == ["colours converted from gamma 1 to sRGB"]
    for value in (45455, 45450, 0):
        color, notes = read(flat(tmp_path / "b.png", RED, chunk(b"gAMA", struct.pack(">I", value))))
        assert (color.tolist(), notes) == (list(RED), [])
    both = chunk(b"sRGB", b"\0") + chunk(b"gAMA", struct.pack(">I", 100_000))
    color, notes = read(flat(tmp_path / "c.png", RED, both))
    assert (color.tolist(), notes) == (list(RED), [])


def chromaticities(*values):
    return chunk(b"cHRM", struct.pack(">8I", *(round(100_000 * value) for value in values)))


def test_png_chromaticities(tmp_path):
    p3 = chromaticities(0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
    color, notes = read(flat(tmp_path / "a.png", P3, p3))
    np.testing.assert_allclose(color, RED, atol=1)
    assert notes == ["colours converted from unnamed primaries to sRGB"]
    srgb = chromaticities(0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
    for chunks in (srgb, chromaticities(*[0.0] * 8), chromaticities(*[0.3] * 8)):
        color, notes = read(flat(tmp_path / "b.png", RED, chunks))
        assert (color.tolist(), notes) == (list(RED), [])


def test_white_stays_white(tmp_path):
    for primaries in (4, 9, 11, 12):
        color, _ = read(
            flat(tmp_path / "a.png", (255, 255, 255), chunk(b"cICP", bytes([primaries, 13, 0, 1])))
        )
        np.testing.assert_allclose(color, 255, atol=1)
        color, _ = read(flat(tmp_path / "a.png", (90, 90, 90), chunk(b"cICP", bytes([primaries, 13, 0, 1]))))
        np.testing.assert_allclose(color, 90, atol=1)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_stills_are_refused(tmp_path, transfer, name):
    flat(tmp_path / "a.png", RED, chunk(b"cICP", bytes([9, transfer, 0, 1])))
    for open_it in (read_image, image_info, open_clip):
        with pytest.raises(InputError, match=f"{name} high dynamic range.*convert it to sRGB"):
            open_it(tmp_path / "a.png")
    with pytest.raises(InputError, match=f"{name} high dynamic range"):
        open_clip(tmp_path)


def avif(path, color, primaries, transfer):
    Image.new("RGB", (16, 16), color).save(path, quality=100, subsampling="4:4:4")
    data = bytearray(path.read_bytes())
    place = data.find(b"colrnclx") + 8
    data[place : place + 4] = struct.pack(">2H", primaries, transfer)
    path.write_bytes(data)
    return path


def test_avif_nclx(tmp_path):
    color, notes = read(avif(tmp_path / "a.avif", P3, 12, 13))
    np.testing.assert_allclose(color, RED, atol=3)
    assert notes == ["colours converted from Display P3 to sRGB"]
    color, notes = read(avif(tmp_path / "b.avif", RED, 1, 13))
    np.testing.assert_allclose(color, RED, atol=3)
    assert notes == []
    with pytest.raises(InputError, match="PQ high dynamic range"):
        read_image(avif(tmp_path / "c.avif", RED, 9, 16))


def test_frames_of_a_folder_are_converted(tmp_path):
    for name in ("1.png", "2.png"):
        flat(tmp_path / name, P3, chunk(b"cICP", bytes([12, 13, 0, 1])))
    clip = open_clip(tmp_path)
    assert clip.notes == ["colours converted from Display P3 to sRGB"]
    for frame in clip:
        np.testing.assert_allclose(255 * frame.mean((0, 1)), RED, atol=1)
