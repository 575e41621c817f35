"""What `--soften auto` does on clips that are sharper than those of the backbone's training.

    python benchmarks/sharp_input.py --data DIR

DIR has a folder of HR frames, or a video, for each clip. Its middle frames are reduced by four: bicubically,
as in training; by Lanczos' kernel; by averaging 4x4 pixels; by taking every fourth pixel. Shown are what the
backbone leaves of each (see `ldip_jax.inference.softening`), the blur that is chosen, and the backbone's PSNR
without and with it. The exit code is 1 if a clip is softened that was reduced bicubically or by Lanczos'
kernel, or if blur loses more than 0.1 dB.
"""

import argparse
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from ldip_jax import Upscaler
from ldip_jax.inference.softening import busiest_part, find_softening, remainder, soften
from ldip_jax.media.reader import open_clip

MOST_LOSS = 0.1
SCALE = 4


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="a folder of clips")
    add("--backbone", default="basicvsr-reds4", help="(default: %(default)s)")
    add("--frames", type=int, default=12, help="(default: %(default)s)")
    return parser.parse_args()


def by_pillow(kernel: Image.Resampling) -> Callable[[np.ndarray], np.ndarray]:
    def reduce(image: np.ndarray) -> np.ndarray:
        size = image.shape[1] // SCALE, image.shape[0] // SCALE
        return np.asarray(Image.fromarray(to_bytes(image)).resize(size, kernel), np.float32) / 255

    return reduce


def averaged(image: np.ndarray) -> np.ndarray:
    h, w, _ = image.shape
    blocks = image.reshape(h // SCALE, SCALE, w // SCALE, SCALE, 3)
    return to_bytes(blocks.mean(axis=(1, 3))).astype(np.float32) / 255


def subsampled(image: np.ndarray) -> np.ndarray:
    return image[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]


REDUCTIONS = {
    "bicubic": by_pillow(Image.Resampling.BICUBIC),
    "lanczos": by_pillow(Image.Resampling.LANCZOS),
    "averaged": averaged,
    "subsampled": subsampled,
}
SOFT = ("bicubic", "lanczos")


def to_bytes(image: np.ndarray) -> np.ndarray:
    return np.round(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)


def psnr(images: list[np.ndarray], truth: list[np.ndarray]) -> float:
    return float(-10 * np.log10(np.mean(np.square(np.clip(images, 0.0, 1.0) - np.stack(truth)))))


def middle_frames(path: Path, count: int) -> list[np.ndarray]:
    with open_clip(path) as clip:
        first = max(0, ((clip.count or count) - count) // 2)
        frames = list(islice(clip.frames(), first, first + count))
    h, w = (n // SCALE * SCALE for n in frames[0].shape[:2])
    return [frame[:h, :w] for frame in frames]


def main() -> int:
    args = arguments()
    upscaler = Upscaler(args.backbone, "none", scale=SCALE, cuts="none", soften="none")

    def upscale(frames: list[np.ndarray]) -> list[np.ndarray]:
        return list(upscaler(np.stack(frames)))

    wrong = False
    print("clip              reduced      left  blur   PSNR  blurred", flush=True)
    for path in sorted(args.data.iterdir()):
        truth = middle_frames(path, args.frames)
        for name, reduce in REDUCTIONS.items():
            frames = [reduce(image) for image in truth]
            part = busiest_part(frames)
            left, sigma = remainder(part, upscale(part)), find_softening(frames, upscale)
            plain = blurred = psnr(upscale(frames), truth)
            if sigma:
                blurred = psnr(upscale([soften(frame, sigma) for frame in frames]), truth)
            bad = blurred < plain - MOST_LOSS or (sigma > 0 and name in SOFT)
            wrong |= bad
            print(
                f"{path.stem[:16]:16s}  {name:10s} {left:.4f}  {sigma:4.2f}  {plain:5.2f}    {blurred:5.2f}"
                f"{'  WRONG' if bad else ''}",
                flush=True,
            )
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
