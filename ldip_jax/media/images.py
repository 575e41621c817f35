"""Still images: any common file as float32 RGB, and exact PNG of 8 or 16 bits."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av import Packet, VideoCodecContext, VideoFrame
from jaxtyping import Float, Shaped, UInt
from PIL import Image, ImageCms

from ldip_jax.atomic import atomic_open
from ldip_jax.errors import InputError
from ldip_jax.media.color import quantise
from ldip_jax.media.frames import plane_view
from ldip_jax.media.image_colors import TaggedColorSpace, tagged_color_space
from ldip_jax.media.image_files import REMEDY, UNREADABLE, open_image
from ldip_jax.media.profiles import GREY, profile, rgb8
from ldip_jax.untrusted import reading

SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".bmp", ".dib", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".j2k", ".avif", ".heic", ".heif"}
)
# Beyond this many pixels, a gigabyte of float32, a file needs a byte for so many of them, so it is not a
# trap.
_MANY_PIXELS, _PIXELS_PER_BYTE = (1 << 30) // 12, 100
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
_ORIENTATION = 0x0112
# EXIF orientation: transpose, then flip rows, then flip columns.
_TURNS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@dataclass(frozen=True)
class ImageInfo:
    """What the header of an image states; the size is that after its orientation is applied.

    Attributes:
        bits: bits that `read_image` keeps, 8 or 16.
        animated: several pictures of one size, which are the frames of a clip.
        paged: the video reader cannot decode these, but `read_pages` can.
        pictures: in the file, of any size.
        notes: what `read_image` changes, such as "alpha dropped".
    """

    height: int
    width: int
    bits: int
    animated: bool
    paged: bool
    pictures: int
    notes: list[str]

    @property
    def first_picture_notes(self) -> list[str]:
        """The notes if only the first picture is used."""
        return [*self.notes, *([f"the first of its {self.pictures} pictures"] if self.pictures > 1 else [])]


def orient(
    pixels: Shaped[np.ndarray, "h w c"], transpose: bool, flip_rows: bool, flip_columns: bool
) -> Shaped[np.ndarray, "H W c"]:
    """One of the eight orientations: rows and columns exchanged, then each reversed as asked; a view."""
    if transpose:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def image_info(path: str | Path) -> ImageInfo:
    """Size, depth and notes of an image file, from its header.

    Raises:
        NotAnImageError: no image format at all.
        InputError: an image that cannot be used.
    """
    path = Path(path)
    with open_image(path) as image, reading(path, UNREADABLE, REMEDY):
        return _describe(path, image)[0]


def read_image(path: str | Path) -> tuple[Float[np.ndarray, "h w 3"], list[str]]:
    """An image file as sRGB.

    PNG (all colour types, 1 to 16 bits), JPEG, TIFF (8 and 16 bits), WebP, AVIF, BMP and others.
    The EXIF orientation is applied, alpha dropped (the colour below it as stored), and colours of another
    profile or tag than sRGB are converted: ICC, PNG's cICP, gAMA and cHRM, AVIF's nclx, EXIF's Adobe RGB.

    Returns:
        float32 R'G'B' in [0, 1], and notes on what was changed, such as "alpha dropped" or "CMYK to RGB".

    Raises:
        InputError: no such file, no image, too large, cut short or damaged, or of high dynamic range.
    """
    path = Path(path)
    with open_image(path) as image, reading(path, UNREADABLE, REMEDY):
        info, transform = _describe(path, image)
        turn = _turn(image)
        # Loading checks the whole file, also where the samples are taken by another decoder below.
        image.load()
        pixels = _samples16(path, image) if info.bits == 16 else _samples8(image, transform)
        if isinstance(transform, TaggedColorSpace):
            pixels = transform.to_srgb(pixels)
    return np.ascontiguousarray(orient(pixels, *turn) if turn else pixels), info.first_picture_notes


def read_pages(path: Path) -> Iterator[Float[np.ndarray, "h w 3"]]:
    """Every picture of an image file that has several, as `read_image` gives the first.

    Raises:
        InputError: a picture is damaged.
    """
    with open_image(path) as image:
        with reading(path, UNREADABLE, REMEDY):
            info, transform = _describe(path, image)
            turn, count = _turn(image), getattr(image, "n_frames", 1)
        for number in range(count):
            with reading(f"{path}, picture {number}", UNREADABLE, REMEDY):
                image.seek(number)
                image.load()
                if info.bits == 16:
                    grey = np.asarray(image).astype(np.float32) / np.float32(65535)
                    pixels = np.repeat(grey[..., None], 3, axis=-1)
                else:
                    pixels = _samples8(image, transform)
                if isinstance(transform, TaggedColorSpace):
                    pixels = transform.to_srgb(pixels)
            yield np.ascontiguousarray(orient(pixels, *turn) if turn else pixels)


def page_seconds(path: Path) -> list[Fraction]:
    """How long each picture of a file is shown, in seconds; 0 if it is not stated. Decodes all of them.

    Raises:
        InputError: a picture is damaged.
    """
    seconds = []
    with open_image(path) as image, reading(path, UNREADABLE, REMEDY):
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            image.load()
            seconds.append(Fraction(round(image.info.get("duration", 0)), 1000))
    return seconds


def _describe(
    path: Path, image: Any
) -> tuple[ImageInfo, ImageCms.ImageCmsTransform | TaggedColorSpace | None]:
    """The header, read before the pixels: loading drops some of it."""
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise InputError(f"{path}: has 32-bit samples, whose range is unknown; convert it to 8 or 16 bits")
    width, height = image.size
    if width * height > max(_MANY_PIXELS, _PIXELS_PER_BYTE * path.stat().st_size):
        raise InputError(
            f"{path}: claims {width}x{height} pixels, far more than its size allows; get it again"
        )
    notes = []
    # Phones add previews to JPEG.
    pictures = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    paged = pictures > 1 and image.format in ("WEBP", "AVIF", "TIFF") and _one_size(image, pictures)
    animated = paged or (pictures > 1 and image.format in ("GIF", "PNG"))
    if image.mode in _ALPHA or "transparency" in image.info:
        notes.append("alpha dropped")
    # Grey of 16 bits with alpha is opened as RGBA.
    if image.mode in GREY or "LA;16B" in _raw_modes(image):
        notes.append("grey to RGB")
    elif image.mode in ("CMYK", "LAB", "HSV", "YCbCr"):
        notes.append(f"{image.mode} to RGB")
    transform: ImageCms.ImageCmsTransform | TaggedColorSpace | None
    if transform := tagged_color_space(path, image):
        note = f"colours converted from {transform.name} to sRGB"
    else:
        transform, note = profile(image)
    bits = _bits(image)
    if note:
        notes.append(note)
    if isinstance(transform, ImageCms.ImageCmsTransform) and bits == 16:
        notes.append("16 bits reduced to 8 by the colour conversion")
        bits = 8
    turn = _turn(image)
    if turn:
        notes.append("turned upright as its EXIF data say")
        if turn[0]:
            width, height = height, width
    if paged and bits == 16 and image.mode[:1] != "I":
        notes.append("16 bits reduced to 8")
        bits = 8
    return ImageInfo(height, width, bits, animated, paged, pictures, notes), transform


def _one_size(image: Any, pictures: int) -> bool:
    """Whether pages are frames; they may also be previews and smaller copies."""
    if image.format != "TIFF":
        return True
    size, mode = image.size, image.mode
    try:
        for number in range(1, pictures):
            image.seek(number)
            if (image.size, image.mode) != (size, mode):
                return False
        return True
    finally:
        image.seek(0)


def _raw_modes(image: Any) -> list[str]:
    """How samples are stored in the file."""
    return [str(tile[3]) for tile in image.tile]


def _bits(image: Any) -> int:
    """16 if the file has samples of 16 bits that can be kept."""
    if image.mode.startswith("I"):
        return 16
    if image.format == "PNG":
        return 16 if any(mode.endswith(";16B") for mode in _raw_modes(image)) else 8
    if image.format == "TIFF":
        depth = image.tag_v2.get(258, 8)
        return 16 if set(depth if isinstance(depth, tuple) else (depth,)) == {16} else 8
    return 8


def _turn(image: Image.Image) -> tuple[bool, bool, bool] | None:
    try:
        # The PNG reader's own method would decode the whole image to look behind it.
        return _TURNS.get(Image.Image.getexif(image).get(_ORIENTATION, 1))
    except Exception:
        return None


def _samples8(
    image: Image.Image, transform: ImageCms.ImageCmsTransform | TaggedColorSpace | None
) -> Float[np.ndarray, "h w 3"]:
    to_srgb = transform if isinstance(transform, ImageCms.ImageCmsTransform) else None
    return np.asarray(rgb8(image, to_srgb)).astype(np.float32) / np.float32(255)


def _samples16(path: Path, image: Image.Image) -> Float[np.ndarray, "h w 3"]:
    """Samples of 16 bits; Pillow cuts them to 8 wherever there is more than one channel."""
    if image.format not in ("PNG", "TIFF"):
        grey = np.asarray(image).astype(np.float32) / np.float32(65535)
        return np.repeat(grey[..., None], 3, axis=-1)
    decoder = VideoCodecContext.create(image.format.lower(), "r")
    assert isinstance(decoder, VideoCodecContext)
    frame = [*decoder.decode(Packet(path.read_bytes())), *decoder.decode(None)][0]
    layout = frame.format.name
    channels = {"gray16": 1, "ya16": 2, "rgb48": 3, "rgba64": 4}.get(layout[:-2])
    if channels is None or (frame.width, frame.height) != image.size:
        raise InputError(f"{path}: its {layout} samples cannot be read; convert it to RGB of 8 or 16 bits")
    samples = plane_view(frame.planes[0], ">u2" if layout.endswith("be") else "<u2", channels)
    samples = samples.reshape(frame.height, frame.width, channels)[..., : 3 if channels > 2 else 1]
    rgb = samples.astype(np.float32) / np.float32(65535)
    return rgb if channels > 2 else np.repeat(rgb, 3, axis=-1)


def encode_png(codes: UInt[np.ndarray, "h w 3"]) -> bytes:
    """A PNG file of 8 bits (uint8) or 16 (uint16)."""
    encoder = VideoCodecContext.create("png", "w")
    assert isinstance(encoder, VideoCodecContext)
    layout = "rgb24" if codes.dtype == np.uint8 else "rgb48be"
    encoder.height, encoder.width = codes.shape[:2]
    encoder.pix_fmt, encoder.time_base = layout, Fraction(1, 25)
    encoder.options = {"pred": "mixed", "compression_level": "3"}
    frame = VideoFrame.from_ndarray(codes, layout)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def write_png(path: str | Path, frame: Float[np.ndarray, "h w 3"], bit_depth: int = 8) -> None:
    """Write R'G'B' in [0, 1] (clipped) as PNG: round(255 y), or round(65535 y) with `bit_depth` 16.

    The file appears whole or not at all.

    Raises:
        InputError: the file cannot be written, or another bit depth.
    """
    if bit_depth not in (8, 16):
        raise InputError(f"bit depth {bit_depth}: PNG has 8 or 16 bits; choose one of them")
    with atomic_open(path) as file:
        file.write(encode_png(quantise(frame, bit_depth)))
