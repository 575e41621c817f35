"""Image files opened by Pillow, HEIC too where a package for it is installed."""

import importlib
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ldip_jax.errors import InputError
from ldip_jax.untrusted import reason

# Packages of the extra "heif", either of which teaches Pillow to read these.
HEIF_READERS = ("pi_heif", "pillow_heif")
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")
# What Pillow is asked to read. It also takes MPEG streams for images, and has Ghostscript run PostScript.
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "AVIF", "GIF", "BMP", "DIB", "PPM", "TGA", "JPEG2000")
_FORMATS += ("ICO", "PCX", "SGI", "PSD", "DDS", "QOI")
UNREADABLE, REMEDY = "cannot be read as an image", "it may be cut short or damaged"


class NotAnImageError(InputError):
    """The file is of no image format that can be read."""


@cache
def register_heif() -> bool:
    """Enable HEIC in Pillow, if a package for that is installed; returns whether one is."""
    for name in HEIF_READERS:
        with suppress(ImportError):
            importlib.import_module(name).register_heif_opener()
            return True
    return False


def _is_heif(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:] in _HEIF


def open_image(path: Path) -> Image.Image:
    """Read the header of an image.

    Raises:
        NotAnImageError: no image format at all.
        InputError: no such file, too large, damaged, or HEIC without a package that reads it.
    """
    try:
        formats: list[str] = [*_FORMATS]
        if path.is_file() and _is_heif(path) and register_heif():
            formats.append("HEIF")
        with warnings.catch_warnings():
            # Large stills are welcome; far larger ones raise DecompressionBombError.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path, formats=formats)
    except UnidentifiedImageError as error:
        if _is_heif(path) and not register_heif():
            # A demuxer would give one tile of it for a video.
            raise InputError(
                f"{path}: HEIC images need the extra heif; pip install 'ldip-jax[heif]', or convert the image"
            ) from error
        if _is_heif(path):
            raise InputError(f"{path}: {UNREADABLE} (HEIC); {REMEDY}") from error
        raise NotAnImageError(f"{path}: cannot be read as an image; give PNG, JPEG or TIFF") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise InputError(f"{path}: has more than {limit} million pixels; make it smaller first") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the name") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder; give an image file") from error
    except Exception as error:
        raise InputError(f"{path}: {UNREADABLE} ({reason(error)}); {REMEDY}") from error
