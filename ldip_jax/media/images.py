"""Still images: any common file as float32 RGB, and exact PNG of 8 or 16 bits."""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av import Packet, VideoCodecContext, VideoFrame
from av.error import FFmpegError
from jaxtyping import Float, Shaped, UInt
from PIL import Image, ImageCms, UnidentifiedImageError

from ldip_jax.atomic import atomic_open
from ldip_jax.errors import InputError
from ldip_jax.media.color import quantise
from ldip_jax.media.frames import plane_view

SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".bmp", ".dib", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".j2k", ".avif"}
)
# What decoders raise on damaged files.
_FAULTS = (OSError, SyntaxError, ValueError, EOFError, LookupError, struct.error, zlib.error, MemoryError)
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
_GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I")
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
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
# Colours on which a profile is compared with sRGB: every combination of nine levels.
_LEVELS = [np.linspace(0, 255, 9).astype(np.uint8)] * 3
_PROBE = Image.fromarray(np.stack(np.meshgrid(*_LEVELS, indexing="ij"), axis=-1).reshape(27, 27, 3))


class NotAnImageError(InputError):
    """The file is of no image format that can be read."""


@dataclass(frozen=True)
class ImageInfo:
    """What the header of an image says; the size is the size after its orientation is applied.

    Attributes:
        bits: bits that `read_image` keeps, 8 or 16.
        animated: a GIF or PNG of several pictures, which the video reader can decode.
        notes: what `read_image` changes, such as "alpha dropped".
    """

    height: int
    width: int
    bits: int
    animated: bool
    notes: list[str]


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
    with _open(path) as image:
        try:
            return _describe(path, image)[0]
        except InputError:
            raise
        except _FAULTS as error:
            raise _damaged(path, error) from error


def read_image(path: str | Path) -> tuple[Float[np.ndarray, "h w 3"], list[str]]:
    """An image file as sRGB.

    PNG (all colour types, 1 to 16 bits), JPEG, TIFF (8 and 16 bits), WebP, BMP and what else Pillow reads.
    The EXIF orientation is applied, alpha dropped (the colour below it as stored), a colour profile other
    than sRGB converted.

    Returns:
        float32 R'G'B' in [0, 1], and notes on what was changed, such as "alpha dropped" or "CMYK to RGB".

    Raises:
        InputError: no such file, no image, too large, cut short or damaged.
    """
    path = Path(path)
    with _open(path) as image:
        try:
            info, transform = _describe(path, image)
            turn = _turn(image)
            # Loading checks the whole file, also where the samples are taken by another decoder below.
            image.load()
            if info.bits == 16:
                pixels = _samples16(path, image)
            else:
                pixels = np.asarray(_rgb8(image, transform)).astype(np.float32) / np.float32(255)
        except InputError:
            raise
        except (*_FAULTS, FFmpegError, ImageCms.PyCMSError) as error:
            raise _damaged(path, error) from error
    return np.ascontiguousarray(orient(pixels, *turn) if turn else pixels), info.notes


def _open(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Large stills are welcome; far larger ones raise DecompressionBombError.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path)
    except UnidentifiedImageError as error:
        raise NotAnImageError(f"{path}: is no image that can be read; give PNG, JPEG or TIFF") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise InputError(f"{path}: has more than {limit} million pixels; make it smaller first") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the name") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder; give an image file") from error
    except _FAULTS as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> InputError:
    reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
    return InputError(f"{path}: cannot be read as an image ({reason}); it may be cut short or damaged")


def _describe(path: Path, image: Any) -> tuple[ImageInfo, ImageCms.ImageCmsTransform | None]:
    """The header, read before the pixels: loading drops some of it."""
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise InputError(f"{path}: has 32-bit samples, whose range is unknown; convert it to 8 or 16 bits")
    notes = []
    pictures = getattr(image, "n_frames", 1)
    if pictures > 1 and image.format != "MPO":
        notes.append(f"the first of its {pictures} pictures")
    if image.mode in _ALPHA or "transparency" in image.info:
        notes.append("alpha dropped")
    # Grey of 16 bits with alpha is opened as RGBA.
    if image.mode in _GREY or "LA;16B" in _raw_modes(image):
        notes.append("grey to RGB")
    elif image.mode in ("CMYK", "LAB", "HSV", "YCbCr"):
        notes.append(f"{image.mode} to RGB")
    transform, note = _profile(image)
    bits = _bits(image)
    if note:
        notes.append(note)
    if transform and bits == 16:
        notes.append("16 bits reduced to 8 by the colour conversion")
        bits = 8
    width, height = image.size
    turn = _turn(image)
    if turn:
        notes.append("turned upright as its EXIF data say")
        if turn[0]:
            width, height = height, width
    animated = pictures > 1 and image.format in ("GIF", "PNG")
    return ImageInfo(height, width, bits, animated, notes), transform


def _raw_modes(image: Any) -> list[str]:
    """How samples lie in the file."""
    return [str(tile[3]) for tile in image.tile]


def _bits(image: Any) -> int:
    """16 where the file has samples of 16 bits that can be kept."""
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
    except _FAULTS:
        return None


def _cms_mode(image: Image.Image) -> str:
    return "CMYK" if image.mode == "CMYK" else "L" if image.mode in _GREY else "RGB"


def _profile(image: Image.Image) -> tuple[ImageCms.ImageCmsTransform | None, str | None]:
    """The way to sRGB where the image's profile is another, and a note about it."""
    data = image.info.get("icc_profile")
    if not data:
        return None, None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(data))
        core: Any = source.profile
        space, mode = core.xcolor_space.strip(), _cms_mode(image)
        if mode != {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space):
            return None, f"its {space} colour profile does not fit and is ignored"
        transform = ImageCms.buildTransform(source, _SRGB, mode, "RGB")
        if mode != "CMYK":
            probe = _PROBE.convert(mode)
            plain = np.asarray(probe.convert("RGB")).astype(int)
            if np.abs(np.asarray(ImageCms.applyTransform(probe, transform)).astype(int) - plain).max() <= 2:
                return None, None
        name = ImageCms.getProfileDescription(source).strip() or "an unnamed profile"
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None, "its colour profile is damaged and ignored"
    return transform, f"colours converted from {name} to sRGB"


def _rgb8(image: Image.Image, transform: ImageCms.ImageCmsTransform | None) -> Image.Image:
    if transform is None:
        return image.convert("RGB")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.int32) // 257).astype(np.uint8))
    converted = ImageCms.applyTransform(image.convert(_cms_mode(image)), transform)
    assert converted is not None
    return converted


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
