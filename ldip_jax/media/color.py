"""How a clip codes colour, and the arithmetic between Y'CbCr samples and R'G'B'.

Colour numbers are the code points of ITU-T H.273, as containers and codecs carry them; 2 means "not said".
R'G'B' is gamma-coded as the clip's transfer says: nothing here makes light linear or changes primaries.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt, UInt8

UNSAID = 2
# Red and blue luma weights of each non-constant-luminance matrix.
_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
_NAMES = {0: "RGB", 1: "BT.709", 4: "FCC", 5: "BT.601", 6: "BT.601", 7: "SMPTE 240M", 9: "BT.2020"}
_HDR = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class Color:
    """The colour tags of a clip.

    Attributes:
        matrix: 0 for R'G'B' itself, 1 BT.709, 5 or 6 BT.601, 9 BT.2020 (see `known_matrix`).
        primaries: 1 BT.709 and sRGB, 5 or 6 BT.601, 9 BT.2020.
        transfer: 1 BT.709, 6 BT.601, 13 sRGB, 16 PQ, 18 HLG.
        full_range: samples use every code (0..255) rather than the video range (16..235, chroma 16..240).
        bits: bits of a sample.
    """

    matrix: int
    primaries: int
    transfer: int
    full_range: bool
    bits: int

    @property
    def known_matrix(self) -> bool:
        return self.matrix == 0 or self.matrix in _WEIGHTS

    @property
    def hdr(self) -> str | None:
        """The name of a high-dynamic-range transfer, or None."""
        return _HDR.get(self.transfer)

    def __str__(self) -> str:
        if self.matrix == 0:
            return "RGB"
        name = _NAMES.get(self.matrix, f"matrix {self.matrix}")
        return f"{name} {'full' if self.full_range else 'video'} range"


SRGB = Color(matrix=0, primaries=1, transfer=13, full_range=True, bits=8)
BT709 = Color(matrix=1, primaries=1, transfer=1, full_range=False, bits=8)


def assume_color(color: Color, height: int, width: int) -> Color:
    """What players assume without tags: BT.601 up to 576 lines of under 1280 pixels, else BT.709."""
    if color.matrix != UNSAID:
        return color
    if color.primaries == 9:
        return replace(color, matrix=9)
    if height > 576 or width >= 1280:
        matrix, primaries, transfer = 1, 1, 1
    else:
        matrix = primaries = 5 if height in (288, 576) else 6
        transfer = 6
    if color.primaries != UNSAID or color.transfer != UNSAID:
        primaries, transfer = color.primaries, color.transfer
    return replace(color, matrix=matrix, primaries=primaries, transfer=transfer)


def _scales(color: Color) -> tuple[float, float, float, float]:
    """Black, luma span, chroma zero, chroma span, in codes."""
    step = 1 << (color.bits - 8)
    if color.full_range:
        return 0.0, 256.0 * step - 1, 128.0 * step, 256.0 * step - 1
    return 16.0 * step, 219.0 * step, 128.0 * step, 224.0 * step


def yuv_to_rgb(planes: Sequence[UInt[np.ndarray, "h w"]], color: Color) -> Float[np.ndarray, "h w 3"]:
    """R'G'B' in [0, 1] (clipped) of the three full-resolution planes Y', Cb, Cr."""
    kr, kb = _WEIGHTS[color.matrix]
    black, luma, zero, chroma = _scales(color)
    y = (planes[0].astype(np.float32) - np.float32(black)) * np.float32(1 / luma)
    cb, cr = ((p.astype(np.float32) - np.float32(zero)) * np.float32(1 / chroma) for p in planes[1:])
    rgb = np.empty((*y.shape, 3), np.float32)
    rgb[..., 0] = y + np.float32(2 * (1 - kr)) * cr
    rgb[..., 2] = y + np.float32(2 * (1 - kb)) * cb
    green_cr, green_cb = 2 * (1 - kr) * kr / (1 - kr - kb), 2 * (1 - kb) * kb / (1 - kr - kb)
    rgb[..., 1] = y - np.float32(green_cr) * cr - np.float32(green_cb) * cb
    return np.clip(rgb, 0, 1, out=rgb)


def rgb_to_yuv(rgb: Float[np.ndarray, "h w 3"], color: Color) -> UInt[np.ndarray, "3 h w"]:
    """Y', Cb, Cr codes (uint8, or uint16 above 8 bits) of R'G'B', which is clipped to [0, 1] first."""
    kr, kb = _WEIGHTS[color.matrix]
    black, luma, zero, chroma = _scales(color)
    weights = np.array([kr, 1 - kr - kb, kb])
    blue, red = np.array([0, 0, 1]) - weights, np.array([1, 0, 0]) - weights
    rows = [luma * weights, chroma / (2 * (1 - kb)) * blue, chroma / (2 * (1 - kr)) * red]
    # One matrix product leaves each plane contiguous, twice as fast as channel by channel.
    codes = np.array(rows, np.float32) @ np.clip(rgb, 0, 1).reshape(-1, 3).T
    codes += np.array([[black], [zero], [zero]], np.float32)
    np.minimum(np.rint(codes, out=codes), (1 << color.bits) - 1, out=codes)
    return codes.reshape(3, *rgb.shape[:2]).astype(np.uint8 if color.bits == 8 else np.uint16)


def quantise(rgb: Float[np.ndarray, "h w 3"], bits: int) -> UInt[np.ndarray, "h w 3"]:
    """round(y (2^bits - 1)) of R'G'B' clipped to [0, 1]: uint8 for 8 bits, else uint16."""
    codes = np.rint(np.clip(rgb, 0, 1) * np.float32((1 << bits) - 1))
    return codes.astype(np.uint8 if bits == 8 else np.uint16)


def as_float(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """8 bits to float32 in [0, 1]."""
    return image.astype(np.float32) / np.float32(255)
