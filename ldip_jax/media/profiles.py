"""Colour profiles of stills (ICC), and the conversion from them to sRGB."""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageCms

GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I")
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
# Colours on which a profile is compared with sRGB: every combination of nine levels.
_LEVELS = [np.linspace(0, 255, 9).astype(np.uint8)] * 3
_PROBE = Image.fromarray(np.stack(np.meshgrid(*_LEVELS, indexing="ij"), axis=-1).reshape(27, 27, 3))


def _cms_mode(image: Image.Image) -> str:
    return "CMYK" if image.mode == "CMYK" else "L" if image.mode in GREY else "RGB"


def profile(image: Image.Image) -> tuple[ImageCms.ImageCmsTransform | None, str | None]:
    """The conversion to sRGB if the image has another profile, and a note about it."""
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
    except Exception:
        return None, "its colour profile is damaged and ignored"
    return transform, f"colours converted from {name} to sRGB"


def rgb8(image: Image.Image, transform: ImageCms.ImageCmsTransform | None) -> Image.Image:
    """The image in RGB of 8 bits, through `transform` if there is one."""
    if transform is None:
        return image.convert("RGB")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.int32) // 257).astype(np.uint8))
    converted = ImageCms.applyTransform(image.convert(_cms_mode(image)), transform)
    assert converted is not None
    return converted
