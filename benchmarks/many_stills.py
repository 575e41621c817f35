"""Whether many stills of other scenes do harm or cost time: five right stills, without and with them.

    python benchmarks/many_stills.py --data DIR [--clips NAME ...] [--seeds N] [--others N]

DIR holds clips, each a folder of images. 12 frames from the middle of a clip are reduced to --size by area,
and by 4 with MATLAB's bicubic kernel, and upscaled again: with five stills, 7 to 18 frames away, and with the
same five among frames of the other clips, shuffled by a seed.

Time is the CPU time of this process, without compiling; "best" is the share of a key-frame that its best
still matches, and "used" how many stills key-frames use, both as means over key-frames; "wrong" is how often
a still of another clip is used. The exit code is 1 if, with many stills, the time is more than 1.5 times that
of five, the PSNR on Y more than 0.05 dB lower, or "best" more than 0.02 lower.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from ldip_jax.runtime import configure

configure()

from ldip_jax.command import at_least  # noqa: E402
from ldip_jax.errors import InputError  # noqa: E402
from ldip_jax.evaluation.metrics import psnr  # noqa: E402
from ldip_jax.inference.api import make_upscaler  # noqa: E402
from ldip_jax.inference.reference_images import Still  # noqa: E402
from ldip_jax.inference.references import ReferenceRules  # noqa: E402
from ldip_jax.inference.upscaler import Upscaler  # noqa: E402
from ldip_jax.media.images import SUFFIXES  # noqa: E402
from ldip_jax.ops.imresize import imresize  # noqa: E402

FRAMES = 12
# Places of the right stills, relative to the first of the frames.
RIGHT = (-18, -12, -7, 18, 26)
MOST_TIME, MOST_LOSS, MOST_SHARE = 1.5, 0.05, 0.02


@dataclass(frozen=True)
class Result:
    """The result of one run; see the text above."""

    psnr: float
    best: float
    used: float
    wrong: int
    seconds: float


def images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def read(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The middle of an image at (height, width), reduced by area; float32."""
    image = Image.open(path).convert("RGB")
    factor = max(size[0] / image.height, size[1] / image.width)
    height, width = (max(n, round(side * factor)) for n, side in zip(size, image.size[::-1], strict=True))
    image = image.resize((width, height), Image.Resampling.BOX)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return np.asarray(image.crop((left, top, left + size[1], top + size[0])), np.float32) / 255.0


def run(upscaler: Upscaler, low: list[np.ndarray], truth: list[np.ndarray], stills: list[Still]) -> Result:
    """Upscales the clip with these stills; the names of the right ones begin with "right"."""
    began = time.process_time()
    made = list(upscaler.frames(low, stills))
    seconds = time.process_time() - began
    used = [[choice for choice in choices if choice.used] for choices in upscaler.choices.values()]
    return Result(
        psnr=float(np.mean([psnr(a, b, quantise=True) for a, b in zip(truth, made, strict=True)])),
        best=float(np.mean([max((choice.share for choice in choices), default=0.0) for choices in used])),
        used=float(np.mean([len(choices) for choices in used])),
        wrong=sum(not choice.name.startswith("right") for choices in used for choice in choices),
        seconds=seconds,
    )


def unrelated_stills(clips: list[Path], size: tuple[int, int], number: int, seed: int) -> list[Still]:
    """Frames of these clips, drawn at random."""
    rng = np.random.default_rng(seed)
    drawn = []
    for index in range(number):
        paths = images(clips[rng.integers(len(clips))])
        path = paths[rng.integers(len(paths))]
        drawn.append(Still(f"other{index} {path.parent.name} {path.stem}", read(path, size)))
    return drawn


def clip_is_good(name: str, args: argparse.Namespace) -> bool:
    """Runs one clip with all seeds, and prints a table."""
    folders = [path for path in sorted(args.data.iterdir()) if path.is_dir() and images(path)]
    rest = [path for path in folders if path.name != name]
    if len(rest) == len(folders) or not rest:
        raise InputError(f"{args.data / name}: needed, and folders of images beside it")
    paths = images(args.data / name)
    first = (len(paths) - FRAMES) // 2
    if first + min(RIGHT) < 0 or first + max(RIGHT) >= len(paths):
        raise InputError(f"{args.data / name}: {len(paths)} frames are too few for this benchmark")
    size = tuple(args.size)
    truth = [read(path, size) for path in paths[first : first + FRAMES]]
    low = [imresize(np.round(255 * frame).astype(np.uint8), 0.25) / np.float32(255) for frame in truth]
    right = [Still(f"right{place}", read(paths[first + place], size)) for place in RIGHT]
    upscaler = make_upscaler(
        low[0].shape[:2],
        scale=None,
        size=size,
        backbone="basicvsr-reds4",
        lrrf="default",
        key_stride=args.key_stride,
        rules=ReferenceRules(),
        matcher="gmflow",
    )
    # Compiles everything.
    list(upscaler.frames(low[:3], [right[0], *unrelated_stills(rest, size, 5, seed=-1 % 2**32)]))
    few = run(upscaler, low, truth, right)
    rows = [("5", few)]
    print_row(name, *rows[0], few)
    for seed in range(args.seeds):
        stills = [*right, *unrelated_stills(rest, size, args.others, seed)]
        np.random.default_rng(seed).shuffle(stills)
        rows.append((f"{len(stills)}, seed {seed}", run(upscaler, low, truth, stills)))
        print_row(name, *rows[-1], few)
    return all(
        row.seconds <= MOST_TIME * few.seconds
        and row.psnr >= few.psnr - MOST_LOSS
        and row.best >= few.best - MOST_SHARE
        for _, row in rows
    )


def print_row(name: str, stills: str, row: Result, few: Result) -> None:
    print(
        f"{name:16} {stills:12} {row.psnr:8.3f} {row.best:6.3f} {row.used:6.2f} {row.wrong:6}"
        f" {row.seconds:9.1f} {row.seconds / few.seconds:6.2f}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", required=True, type=Path, metavar="DIR")
    add("--clips", nargs="+", default=["blackswan"], metavar="NAME", help="default: blackswan")
    add("--seeds", type=at_least(1), default=3, metavar="N", help="draws of the other stills (default: 3)")
    add("--others", type=at_least(0), default=45, metavar="N", help="stills of other clips (default: 45)")
    add("--key-stride", type=at_least(1), default=8, metavar="N", help="default: 8")
    add("--size", nargs=2, type=at_least(32), default=[128, 192], metavar=("H", "W"), help="default: 128 192")
    args = parser.parse_args()
    columns = ("PSNR Y", 8), ("best", 6), ("used", 6), ("wrong", 6), ("CPU s", 9), ("ratio", 6)
    print(" ".join(["clip".ljust(16), "stills".ljust(12), *(name.rjust(width) for name, width in columns)]))
    try:
        good = [clip_is_good(name, args) for name in args.clips]
    except InputError as error:
        print(f"many_stills.py: {error}", file=sys.stderr)
        return 2
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
