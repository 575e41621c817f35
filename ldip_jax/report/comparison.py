"""A picture of methods side by side, each with its name, its scores, a whole frame and enlarged details."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from ldip_jax.atomic import atomic_open
from ldip_jax.ops.box import box_sums
from ldip_jax.report.content import Crop, Method


def shown_frames(count: int, max_frames: int = 8) -> list[int]:
    """At most `max_frames` of `count` frame numbers, evenly spaced, including the first and the last."""
    return sorted({round(index) for index in np.linspace(0, count - 1, min(count, max_frames))})


def choose_crops(
    images: Sequence[UInt8[np.ndarray, "h w 3"]], frame: int, count: int = 2, side: int = 64
) -> list[Crop]:
    """Up to `count` separate squares where versions of one frame differ most.

    If all versions are equal, the squares with the strongest edges are chosen.

    Args:
        images: the frame from each method, all of one size.
        frame: its number among the shown frames, passed on to the result.
        side: length of a square's side in pixels; limited by the frame's size.
    """
    grey = [image.mean(axis=2) for image in images]
    energy = np.max(grey, axis=0) - np.min(grey, axis=0)
    if not energy.any():
        padded = np.pad(grey[0], ((0, 1), (0, 1)), "edge")
        energy = np.abs(np.diff(padded, axis=0))[:, :-1] + np.abs(np.diff(padded, axis=1))[:-1]
    h, w = energy.shape
    side = min(side, h, w)
    sums = box_sums(energy, (side, side))
    crops = []
    while len(crops) < count and (sums > -1).any():
        y, x = (int(index) for index in np.unravel_index(np.argmax(sums), sums.shape))
        crops.append(Crop(frame, x, y, side))
        sums[max(0, y - side) : y + side, max(0, x - side) : x + side] = -1
    return crops


_GAP = 8
_NAME_SIZE = 20
_CAPTION_SIZE = 15
_LABEL = _NAME_SIZE + _CAPTION_SIZE + 14
_NARROWEST, _WIDEST = 320, 640
_COLORS = ("#e4572e", "#17bebb", "#ffc914", "#8e6fd8")


def draw_comparison(
    methods: Sequence[Method], crops: Sequence[Crop], columns: int = 3
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture, with `columns` methods in each row; methods without images are left out.

    Frames wider than 640 pixels are reduced, but details are not: they are enlarged by a whole number without
    smoothing, and framed in the colour that marks their place in the frame.

    Args:
        crops: one or more places in the same shown frame.

    Raises:
        ValueError: no crops, crops of several frames, or no method with images.
    """
    shown = [method for method in methods if len(method.images)]
    if not shown or len({crop.frame for crop in crops}) != 1:
        raise ValueError("a comparison needs methods with images, and crops of one frame")
    panels = [_panel(method, crops) for method in shown]
    width, height = panels[0].size
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    picture = Image.new("RGB", (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP), "white")
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        picture.paste(panel, (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
    return np.asarray(picture)


def write_comparison(
    path: str | Path, methods: Sequence[Method], crops: Sequence[Crop], columns: int = 3
) -> None:
    """`draw_comparison` as a PNG file, replaced if it exists.

    Raises:
        InputError: the file cannot be written.
    """
    picture = Image.fromarray(draw_comparison(methods, crops, columns))
    with atomic_open(path) as file:
        picture.save(file, "PNG")


def _panel(method: Method, crops: Sequence[Crop]) -> Image.Image:
    image = method.images[crops[0].frame]
    h, w = image.shape[:2]
    scale = min(1.0, _WIDEST / w)
    whole = Image.fromarray(image)
    if scale < 1.0:
        whole = whole.resize((round(w * scale), round(h * scale)), Image.Resampling.LANCZOS)
    width = max(whole.width, _NARROWEST)
    place = (width - (len(crops) - 1) * _GAP) // len(crops)
    details = [_detail(image, crop, place, color) for crop, color in zip(crops, _cycle(crops), strict=True)]
    below = _LABEL + whole.height + _GAP
    panel = Image.new("RGB", (width, below + max(detail.height for detail in details)), "white")
    draw = ImageDraw.Draw(panel)
    _write(draw, method.name, 0, _NAME_SIZE, "black", width)
    _write(draw, _caption(method), _NAME_SIZE + 6, _CAPTION_SIZE, "#555", width)
    panel.paste(whole, (0, _LABEL))
    for index, (crop, color, detail) in enumerate(zip(crops, _cycle(crops), details, strict=True)):
        left, top, side = (round(scale * value) for value in (crop.x, crop.y, crop.side))
        draw.rectangle((left, _LABEL + top, left + side - 1, _LABEL + top + side - 1), outline=color, width=2)
        panel.paste(detail, (index * (place + _GAP), below))
    return panel


def _cycle(crops: Sequence[Crop]) -> list[str]:
    return [_COLORS[index % len(_COLORS)] for index in range(len(crops))]


def _detail(image: np.ndarray, crop: Crop, place: int, color: str) -> Image.Image:
    """The crop, enlarged by the largest whole factor that fits into `place` pixels, and framed."""
    border = 3
    factor = max(1, (place - 2 * border) // crop.side)
    detail = np.kron(crop.cut(image), np.ones((factor, factor, 1), np.uint8))
    framed = Image.new("RGB", (detail.shape[1] + 2 * border, detail.shape[0] + 2 * border), color)
    framed.paste(Image.fromarray(detail), (border, border))
    return framed


def _caption(method: Method) -> str:
    parts = [
        "" if method.psnr_y is None else f"{method.psnr_y:.2f} dB",
        "" if method.ssim_y is None else f"SSIM {method.ssim_y:.4f}",
        method.note,
    ]
    return ", ".join(part for part in parts if part)


def _write(draw: ImageDraw.ImageDraw, text: str, y: int, size: int, color: str, width: int) -> None:
    """Draw one line of text from the left edge, shortened with an ellipsis if it is too long."""
    font = ImageFont.load_default(size)
    text = " ".join(text.split())
    if draw.textlength(text, font) > width:
        while text and draw.textlength(text + "...", font) > width:
            text = text[:-1]
        text += "..."
    draw.text((0, y), text, font=font, fill=color)
