"""What tiles change: frames in tiles against the same frames as a whole, with the same weights.

    python benchmarks/tiles_vs_whole.py --truth FRAMES --frames 9 --size 256x192 --tile 96 --halo 32
    python benchmarks/tiles_vs_whole.py --truth FRAMES --still A.png

The frames of `--truth` are reduced by 4 and upscaled again. For tiles in the backbone's recurrence, in
everything that follows it, and in both, the table shows the change of the PSNR against the truth; the PSNR
between tiled and whole frames; the largest change of a 16x16 block's PSNR against the truth; and how much
larger steps between pixels are across the seams than in whole frames at the same places. The exit code is 1
beyond the bounds: 0.02 dB, 0.2 dB of a block, and 2 % of a step.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from ldip_jax.runtime import configure

configure()
from ldip_jax.inference import memory_plan as plans  # noqa: E402
from ldip_jax.inference.api import make_upscaler  # noqa: E402
from ldip_jax.inference.reference_images import Still  # noqa: E402
from ldip_jax.inference.references import ReferenceRules  # noqa: E402
from ldip_jax.inference.streaming import TileLayout  # noqa: E402
from ldip_jax.inference.tiles import Tiling, whole  # noqa: E402

MOST_PSNR, MOST_BLOCK, MOST_STEP = 0.02, 0.2, 0.02
BLOCK = 16


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--truth", type=Path, required=True, help="a folder of HR frames")
    add("--still", type=Path, action="append", default=[], help="a reference; can be repeated")
    add("--frames", type=int, default=9, help="(default: %(default)s)")
    add("--size", default="256x192", help="of the LR frames, cut from the middle (default: %(default)s)")
    add("--tile", type=int, default=128, help="LR pixels that a tile reads (default: %(default)s)")
    add("--halo", type=int, default=plans.HALO, help="of the recurrence (default: %(default)s)")
    add("--lrrf", default="default", help="as for `ldip upscale`")
    args = parser.parse_args()
    least = 2 * args.halo + plans.MIN_KEPT
    if args.tile < least:
        parser.error(f"--tile {args.tile}: with a halo of {args.halo}, tiles read at least {least} LR pixels")
    return args


def psnr(mse: np.ndarray | float) -> np.ndarray | float:
    return -10.0 * np.log10(np.maximum(mse, 1e-14))


def blocks(error: np.ndarray) -> np.ndarray:
    """PSNR of each block, from squared errors `t h w c`; at most 45 dB."""
    t, h, w, _ = error.shape
    cut = error[:, : h // BLOCK * BLOCK, : w // BLOCK * BLOCK].mean(axis=-1)
    mean = cut.reshape(t, h // BLOCK, BLOCK, w // BLOCK, BLOCK).mean(axis=(2, 4))
    return np.minimum(psnr(mean), 45.0)


def seam_steps(frames: np.ndarray, seams: tuple[set[int], set[int]]) -> float:
    """Mean step between the pixels on both sides of the seams."""
    steps = [np.abs(frames[:, y] - frames[:, y - 1]).mean() for y in seams[0]]
    steps += [np.abs(frames[:, :, x] - frames[:, :, x - 1]).mean() for x in seams[1]]
    return float(np.mean(steps))


def main() -> int:
    args = arguments()
    width, height = map(int, args.size.split("x"))
    truth, frames = [], []
    for path in sorted(p for p in args.truth.iterdir() if p.suffix.lower() in (".png", ".jpg"))[
        : args.frames
    ]:
        image = Image.open(path).convert("RGB")
        left, top = (image.width - 4 * width) // 2, (image.height - 4 * height) // 2
        image = image.crop((left, top, left + 4 * width, top + 4 * height))
        truth.append(np.asarray(image, np.float32) / 255)
        small = image.resize((width, height), Image.Resampling.BICUBIC)
        frames.append(np.asarray(small, np.float32) / 255)
    stills = [
        Still(path.stem, np.asarray(Image.open(path).convert("RGB"), np.float32) / 255) for path in args.still
    ]
    size = (height, width)
    upscaler = make_upscaler(
        size,
        scale=None,
        size=None,
        backbone="basicvsr-reds4",
        lrrf=args.lrrf,
        has_stills=bool(stills),
        key_stride=8,
        rules=ReferenceRules(),
        matcher="gmflow",
        cuts="none",
        # Trying would use the tiles on other frames.
        soften=0.0,
    )
    plan = upscaler.memory_plan(len(frames), len(stills))

    def run(layout: TileLayout) -> np.ndarray:
        upscaler.memory_plan = lambda *_: replace(plan, layout=layout)
        return np.stack(list(upscaler.frames(frames, stills)))

    def tiling(halo: int) -> Tiling:
        tile = [n if n <= args.tile else args.tile - (args.tile - n) % plans.MULTIPLE for n in size]
        return Tiling(size, (tile[0], tile[1]), halo, plans.MULTIPLE)

    halo = plans.HRIP_HALO if upscaler.propagation not in (None, "carry") else plans.DETAIL_HALO
    one, parts = whole(size), {"recurrence": tiling(args.halo), "what follows": tiling(halo)}
    layouts = {
        "recurrence": TileLayout(parts["recurrence"], one, True),
        "what follows": TileLayout(one, parts["what follows"], True),
        "both": TileLayout(parts["recurrence"], parts["what follows"], True),
    }
    target = np.stack(truth)
    base = run(TileLayout(one, one))
    base_error = (base - target) ** 2
    print(f"{upscaler.model.title}; {args.size}, {len(frames)} frames, {len(stills)} stills; tiles of")
    print(f"{args.tile} LR pixels, halo {args.halo} and {halo}; whole: {psnr(base_error.mean()):.3f} dB\n")
    print("in tiles        change dB  between dB  worst block dB  seam steps")
    exceeded = False
    for name, layout in layouts.items():
        made = run(layout)
        error = (made - target) ** 2
        change = psnr(error.mean()) - psnr(base_error.mean())
        worst = float(np.abs(blocks(error) - blocks(base_error)).max())
        tiles = [*layout.recurrence.tiles, *layout.detail.tiles]
        seams = {4 * t.keep.rows.start for t in tiles} - {0}, {4 * t.keep.columns.start for t in tiles} - {0}
        steps = seam_steps(made, seams) / seam_steps(base, seams) - 1.0
        exceeded |= abs(change) > MOST_PSNR or worst > MOST_BLOCK or abs(steps) > MOST_STEP
        # The recurrence reaches beyond its tiles, so equal frames would mean that there were none.
        exceeded |= layout.recurrence.count > 1 and np.array_equal(made, base)
        between = psnr(((made - base) ** 2).mean())
        print(f"{name:15s} {change:+9.4f} {between:11.1f} {worst:15.3f} {steps:+11.2%}", flush=True)
    return int(exceeded)


if __name__ == "__main__":
    sys.exit(main())
