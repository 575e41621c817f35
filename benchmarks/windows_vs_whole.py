"""What windows change: a clip in windows against the same clip in one window, backbone only.

    python benchmarks/windows_vs_whole.py --truth FRAMES --frames 60 --window 24
    python benchmarks/windows_vs_whole.py --truth FRAMES --aliased

The frames of `--truth` are halved by the mean of 2x2 pixels, cut from the middle, reduced by 4 (bicubic; with
`--aliased`, every fourth pixel is taken) and upscaled again. "hard" are windows that do not continue each
other. The table shows the differences of the frames' PSNR from that of one window, the largest change between
the frames at a seam divided by the change of one window there, and the lowest PSNR against one window. The
exit code is 1 if windows that continue each other jump by more than 5 %.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from ldip_jax.runtime import configure

configure()
from ldip_jax.inference import upscaler as module  # noqa: E402
from ldip_jax.inference.api import make_upscaler  # noqa: E402
from ldip_jax.inference.references import ReferenceRules  # noqa: E402
from ldip_jax.inference.streaming import windows  # noqa: E402
from ldip_jax.inference.window_chain import WindowChain  # noqa: E402
from ldip_jax.ops.imresize import imresize  # noqa: E402

MOST_JUMP = 1.05


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--truth", type=Path, required=True, help="a folder of frames")
    add("--frames", type=int, default=60, help="(default: %(default)s)")
    add("--size", default="80x48", help="of the LR frames (default: %(default)s)")
    add("--window", type=int, default=24, help="frames of a window (default: %(default)s)")
    add("--overlap", type=int, default=8, help="frames shared on either side (default: %(default)s)")
    add("--aliased", action="store_true", help="take every fourth pixel, without a filter")
    add("--backbone", default="basicvsr-reds4", help="(default: %(default)s)")
    return parser.parse_args()


def read(args: argparse.Namespace) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of truth and LR frame."""
    width, height = map(int, args.size.split("x"))
    paths = sorted(p for p in args.truth.iterdir() if p.suffix.lower() in (".png", ".jpg"))
    for path in paths[: args.frames]:
        image = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
        rows, columns = image.shape[0] // 2, image.shape[1] // 2
        image = image[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, 3).mean(axis=(1, 3))
        top, left = (rows - 4 * height) // 2, (columns - 4 * width) // 2
        truth = image[top : top + 4 * height, left : left + 4 * width]
        low = truth[1::4, 1::4] if args.aliased else np.clip(imresize(truth, size=(height, width)), 0, 1)
        yield truth, np.ascontiguousarray(low, np.float32)


def psnr(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """PSNR of each frame, in dB."""
    return -10 * np.log10(np.maximum(np.mean(np.square(one - other), axis=(1, 2, 3)), 1e-14))


def main() -> int:
    args = arguments()
    truth, low = (np.stack(side) for side in zip(*read(args), strict=True))
    upscaler = make_upscaler(
        low.shape[1:3],
        scale=None,
        size=None,
        backbone=args.backbone,
        lrrf="none",
        has_stills=False,
        key_stride=8,
        rules=ReferenceRules(),
        matcher="gmflow",
        cuts="none",
    )

    def run(length: int) -> np.ndarray:
        with (
            mock.patch.object(module, "window_length", return_value=length),
            mock.patch.object(module, "OVERLAP", args.overlap),
        ):
            return np.stack(list(upscaler.frames(low)))

    whole = run(len(low))
    seams = [w.first + w.keep.start for w in windows(range(len(low)), args.window, args.overlap)][1:]
    with mock.patch.object(WindowChain, "features", lambda self, window: self._features_of(window)):
        made = {"hard": run(args.window)}
    made["as they are"] = run(args.window)
    base = psnr(whole, truth)
    print(f"{len(low)} frames, seams at {seams}; one window: {base.mean():.3f} dB")
    print("windows      mean dB  worst dB  best dB  jump at seams  lowest PSNR to one window")
    jump = 0.0
    for name, frames in made.items():
        change = psnr(frames, truth) - base
        steps = [np.abs(f[s] - f[s - 1]).mean() for f in (frames, whole) for s in seams]
        jump = max(a / b for a, b in zip(steps[: len(seams)], steps[len(seams) :], strict=True))
        print(
            f"{name:12} {change.mean():+7.3f} {change.min():+9.3f} {change.max():+8.3f} {jump:14.3f}"
            f" {psnr(frames, whole).min():26.1f}",
            flush=True,
        )
    return int(jump > MOST_JUMP)


if __name__ == "__main__":
    sys.exit(main())
