"""Stills whose colours are tagged other than by a profile: cICP, gAMA and cHRM of PNG, nclx of AVIF, EXIF.

Code points are those of ITU-T H.273. Chromaticities are CIE 1931 (x, y).
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from ldip_jax.errors import InputError

Point = tuple[float, float]
_D65, _DCI_WHITE, _C = (0.3127, 0.3290), (0.314, 0.351), (0.310, 0.316)
_SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), _D65)
_ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), _D65)
_SMPTE = ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65)
_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
# Red, green, blue and white of each code, and its name.
_PRIMARIES: dict[int, tuple[tuple[Point, ...], str]] = {
    1: (_SRGB, "BT.709"),
    4: (((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _C), "BT.470 M"),
    5: (((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65), "BT.470 BG"),
    6: (_SMPTE, "BT.601"),
    7: (_SMPTE, "SMPTE 240M"),
    9: (((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65), "BT.2020"),
    11: ((*_P3, _DCI_WHITE), "DCI P3"),
    12: ((*_P3, _D65), "Display P3"),
}
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0, 17: 2.6}
_HDR = {16: "PQ", 18: "HLG"}
_ADOBE_GAMMA = 563 / 256
# PNG's 45455 stands for sRGB's own curve; other programs round it.
_SRGB_GAMMA, _CLOSE = 1 / 0.45455, 0.02
_COLOR_SPACE, _INTEROP, _INTEROP_INDEX = 0xA001, 0xA005, 1
_BOXES_WITHIN = 1 << 16
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


@dataclass(frozen=True)
class TaggedColorSpace:
    """A colour space other than sRGB.

    Attributes:
        name: for notes.
        points: red, green, blue and white.
        gamma: of the curve that takes codes to light; None for sRGB's.
    """

    name: str
    points: tuple[Point, ...]
    gamma: float | None

    def to_srgb(self, rgb: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
        """float32 R'G'B' of sRGB in [0, 1], colours beyond it clipped, from this space's."""
        if self.gamma is None:
            light = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        else:
            light = rgb**self.gamma
        matrix = np.linalg.inv(_to_xyz(_SRGB)) @ _adapt_white(self.points)
        light = np.clip(light @ matrix.T.astype(np.float32), 0, 1)
        coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        return coded.astype(np.float32)


def _white(points: Sequence[Point]) -> np.ndarray:
    x, y = points[3]
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _to_xyz(points: Sequence[Point]) -> np.ndarray:
    """Light of the primaries to XYZ, so that equal light is white."""
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in points[:3]]).T
    return columns * np.linalg.solve(columns, _white(points))


def _adapt_white(points: Sequence[Point]) -> np.ndarray:
    """The same, with white adapted to that of sRGB."""
    gains = (_BRADFORD @ _white(_SRGB)) / (_BRADFORD @ _white(points))
    return np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD @ _to_xyz(points)


def tagged_color_space(path: Path, image: Image.Image) -> TaggedColorSpace | None:
    """The colour space that an image's tags name; None for sRGB, or if a profile takes precedence.

    Raises:
        InputError: high dynamic range, which cannot be used with sRGB stills.
    """
    profile = bool(image.info.get("icc_profile"))
    if image.format == "PNG":
        chunks = dict(_png_chunks(path))
        if len(chunks.get(b"cICP", b"")) >= 2:
            return _from_code_points(path, *chunks[b"cICP"][:2])
        return None if profile or b"sRGB" in chunks else _from_chromaticities(chunks)
    if profile:
        return None
    if image.format in ("AVIF", "HEIF"):
        with path.open("rb") as file:
            head = file.read(_BOXES_WITHIN)
        place = head.find(b"colrnclx")
        if 0 <= place <= len(head) - 12:
            return _from_code_points(path, *struct.unpack(">2H", head[place + 8 : place + 12]))
        return None
    return TaggedColorSpace("Adobe RGB", _ADOBE, _ADOBE_GAMMA) if _is_adobe_rgb(image) else None


def _from_code_points(path: Path, primaries: int, transfer: int) -> TaggedColorSpace | None:
    if transfer in _HDR:
        raise InputError(
            f"{path}: {_HDR[transfer]} high dynamic range, which stills are not read in; convert it to sRGB"
        )
    points, name = _PRIMARIES.get(primaries, (_SRGB, ""))
    gamma = _GAMMAS.get(transfer)
    if points == _SRGB and gamma is None:
        return None
    return TaggedColorSpace(name if gamma is None else f"{name} with gamma {gamma:g}".strip(), points, gamma)


def _png_chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The small chunks before the pixels."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name in (b"IDAT", b"IEND"):
                return
            if name in (b"cICP", b"gAMA", b"cHRM", b"sRGB") and length <= 32:
                yield name, file.read(length)
                file.seek(4, 1)
            else:
                file.seek(length + 4, 1)


def _from_chromaticities(chunks: dict[bytes, bytes]) -> TaggedColorSpace | None:
    """The colour space of gAMA and cHRM."""
    points, gamma = _SRGB, None
    if len(chunks.get(b"cHRM", b"")) == 32:
        values = [value / 100_000 for value in struct.unpack(">8I", chunks[b"cHRM"])]
        pairs = list(zip(values[::2], values[1::2], strict=True))
        found = (*pairs[1:], pairs[0])
        usable = all(y > 0 and x + y <= 1 for x, y in found)
        if usable and np.abs(np.array(found) - np.array(_SRGB)).max() > 0.003 and _spans(found):
            points = found
    if len(chunks.get(b"gAMA", b"")) == 4:
        (value,) = struct.unpack(">I", chunks[b"gAMA"])
        if value and abs(100_000 / value / _SRGB_GAMMA - 1) > _CLOSE:
            gamma = 100_000 / value
    if points == _SRGB and gamma is None:
        return None
    parts = [] if points == _SRGB else ["unnamed primaries"]
    return TaggedColorSpace(
        " with ".join([*parts, *([f"gamma {gamma:.3g}"] if gamma else [])]), points, gamma
    )


def _spans(points: Sequence[Point]) -> bool:
    """Whether the primaries are the corners of a triangle of some area."""
    (rx, ry), (gx, gy), (bx, by) = points[:3]
    return abs((gx - rx) * (by - ry) - (bx - rx) * (gy - ry)) > 1e-3


def _is_adobe_rgb(image: Image.Image) -> bool:
    try:
        exif: Any = Image.Image.getexif(image)
        space = exif.get_ifd(0x8769).get(_COLOR_SPACE)
        index = str(exif.get_ifd(_INTEROP).get(_INTEROP_INDEX, "")).strip("\0 ")
    except Exception:
        # Invalid EXIF data are ignored.
        return False
    return space == 2 or (space == 0xFFFF and index == "R03")
