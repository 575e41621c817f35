"""One picture of what the network made of a sample, and out of what."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8
from PIL import Image, ImageDraw

from ldip_jax.media.color import quantise

GAP = 4
LABEL = 14
SHADE = 32
_INK = (235, 235, 235)

_Row = list[tuple[str, np.ndarray]]


class KeyPictures(NamedTuple):
    """A key-frame's references, on canvases that may be larger than they are.

    Attributes:
        place: of the key-frame in the clip.
        references: RGB.
        sizes: true (height, width) of each.
        valid: 0 for empty slots.
        confidence: of each reference at each pixel of the key-frame, in [0, 1].
    """

    place: int
    references: UInt8[np.ndarray, "n h w 3"]
    sizes: Int[np.ndarray, "n 2"]
    valid: Shaped[np.ndarray, " n"]
    confidence: Float[np.ndarray, "n H W 1"]


def contact_sheet(
    lr: UInt8[np.ndarray, "t h w 3"],
    output: Float[np.ndarray, "t H W 3"],
    target: UInt8[np.ndarray, "t H W 3"],
    keys: Sequence[KeyPictures],
) -> UInt8[np.ndarray, "rows columns 3"]:
    """LR, output, target and their difference at the middle frame; then the same at each key-frame, with its
    references and how far they were trusted.

    Args:
        lr: shown at the output's size, each pixel a block.
        output: in [0, 1], clipped here; what is not finite is black.
        target: the true frames.
        keys: a row for each.
    """
    rows = [_frame(lr, output, target, len(output) // 2, "frame")]
    for key in keys:
        row = _frame(lr, output, target, key.place, "key-frame")
        for n in np.flatnonzero(key.valid):
            height, width = key.sizes[n]
            row.append((f"reference {n + 1}", key.references[n, :height, :width]))
            row.append(("confidence", _picture(np.repeat(key.confidence[n], 3, axis=-1))))
        rows.append(row)
    return _stack([_side_by_side(row) for row in rows])


def _frame(lr: np.ndarray, output: np.ndarray, target: np.ndarray, t: int, name: str) -> _Row:
    height, width = output.shape[1:3]
    enlarged = Image.fromarray(lr[t]).resize((width, height), Image.Resampling.NEAREST)
    made = _picture(output[t])
    difference = np.abs(made.astype(int) - target[t])
    return [
        (f"{name} {t}: LR", np.asarray(enlarged)),
        ("output", made),
        ("target", target[t]),
        ("difference x 4", _picture(4.0 * difference / 255.0)),
    ]


def _picture(image: np.ndarray) -> np.ndarray:
    return quantise(np.nan_to_num(image.astype(np.float32)), 8)


def _side_by_side(row: _Row) -> np.ndarray:
    height = LABEL + max(image.shape[0] for _, image in row)
    widths = [max(image.shape[1], 6 * len(label)) for label, image in row]
    sheet = Image.new("RGB", (sum(widths) + GAP * (len(row) + 1), height), (SHADE,) * 3)
    draw = ImageDraw.Draw(sheet)
    left = GAP
    for (label, image), width in zip(row, widths, strict=True):
        draw.text((left, 1), label, fill=_INK)
        sheet.paste(Image.fromarray(np.ascontiguousarray(image)), (left, LABEL))
        left += width + GAP
    return np.asarray(sheet)


def _stack(rows: Sequence[np.ndarray]) -> np.ndarray:
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.pad(row, ((0, GAP), (0, width - row.shape[1]), (0, 0)), constant_values=SHADE) for row in rows]
    )
