"""The animated picture of the README: the demo's clip by only the backbone and by LDIP with two stills.

python scripts/stills_animation.py docs/images/stills.webp

The clip (CC0) is that of `ldip demo`; it and the weights are fetched once. Takes minutes on two CPU cores.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from ldip_jax.atomic import atomic_open
from ldip_jax.demo.material import CLIP, prepare
from ldip_jax.demo.methods import load
from ldip_jax.inference.reference_images import Still
from ldip_jax.media.color import as_float, quantise
from ldip_jax.media.reader import open_clip
from ldip_jax.weights.fetch import fetch

# The part of a frame that is shown (left, top, right, bottom), and its enlargement.
CROP, ENLARGED = (64, 16, 384, 240), 2
STILL_WIDTH, GAP, TEXT = 150, 10, 20
# Milliseconds for which a frame is shown, and steps that the line takes from one side to the other.
MILLISECONDS, SWEEP = 110, 24
QUALITY = 62


def draw(
    backbone: Sequence[UInt8[np.ndarray, "h w 3"]],
    ldip: Sequence[UInt8[np.ndarray, "h w 3"]],
    stills: Sequence[UInt8[np.ndarray, "h w 3"]],
) -> list[Image.Image]:
    """The pictures: the clip played forwards and backwards, under a line that sweeps; left of it is LDIP."""
    order = [*range(len(ldip)), *range(len(ldip) - 2, 0, -1)]
    count = max(len(order), 2 * SWEEP)
    shown = [_enlarged(image) for image in (*backbone, *ldip)]
    small = [_still(image) for image in stills]
    pictures = []
    for step in range(count):
        place = order[step % len(order)]
        # Slow at both ends, so that each result is seen as a whole.
        share = 0.5 - 0.5 * np.cos(2 * np.pi * step / count)
        pictures.append(_picture(shown[place], shown[len(backbone) + place], small, float(share)))
    return pictures


def _picture(
    backbone: Image.Image, ldip: Image.Image, stills: list[Image.Image], share: float
) -> Image.Image:
    width, height = backbone.size
    top = height + GAP
    picture = Image.new("RGB", (width, top + stills[0].height + GAP), "white")
    picture.paste(backbone, (0, 0))
    line = round(share * width)
    picture.paste(ldip.crop((0, 0, line, height)), (0, 0))
    pen = ImageDraw.Draw(picture)
    pen.line((line, 0, line, height - 1), fill="white", width=3)
    _label(pen, "LDIP with two stills", 10, line)
    _label(pen, "only the backbone", width - 10, width - line, right=True)
    left = width
    for still in reversed(stills):
        left -= still.width
        picture.paste(still, (left, top))
        left -= GAP
    font = ImageFont.load_default(TEXT - 2)
    text = (
        "A clip of 112x64 pixels, times 4.\n"
        "The stills: two sharp frames of\n"
        "the shot, 12 frames before and after."
    )
    pen.multiline_text((4, top + 4), text, fill="#333", font=font)
    return picture


def _label(pen: ImageDraw.ImageDraw, text: str, x: int, space: int, *, right: bool = False) -> None:
    """A label at the upper edge, if there is space for it."""
    font = ImageFont.load_default(TEXT)
    wide = pen.textlength(text, font)
    if wide + 24 > space:
        return
    left = x - wide if right else x
    pen.rounded_rectangle((left - 6, 8, left + wide + 6, 8 + TEXT + 10), 5, fill="#222")
    pen.text((left, 12), text, fill="white", font=font)


def _enlarged(image: UInt8[np.ndarray, "h w 3"]) -> Image.Image:
    part = Image.fromarray(image).crop(CROP)
    return part.resize((part.width * ENLARGED, part.height * ENLARGED), Image.Resampling.BICUBIC)


def _still(image: UInt8[np.ndarray, "h w 3"]) -> Image.Image:
    height = round(image.shape[0] * STILL_WIDTH / image.shape[1])
    return Image.fromarray(image).resize((STILL_WIDTH, height), Image.Resampling.LANCZOS)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="a .webp file")
    args = parser.parse_args(argv)
    upscalers = load("default", print)
    assert upscalers.with_stills is not None, "weights of LRRF are shipped"
    material = prepare(open_clip(fetch(CLIP, progress=print)))
    names = list(material.stills)[:2]
    stills = [Still(name, as_float(material.stills[name])) for name in names]
    results = [
        [quantise(frame, 8) for frame in upscaler.frames(map(as_float, material.low), given)]
        for upscaler, given in ((upscalers.backbone, []), (upscalers.with_stills, stills))
    ]
    pictures = draw(results[0], results[1], [material.stills[name] for name in names])
    with atomic_open(args.output) as file:
        pictures[0].save(
            file, "WEBP", save_all=True, append_images=pictures[1:], duration=MILLISECONDS, loop=0,
            quality=QUALITY, method=6,
        )  # fmt: skip
    print(f"{args.output}: {len(pictures)} pictures, {args.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
