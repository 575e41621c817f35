"""Peak memory of `ldip upscale` by the length of the clip, with which it must not grow.

    python benchmarks/memory_lengths.py --lengths 1000 10000 -- --lrrf none
    python benchmarks/memory_lengths.py --lengths 1000 2000 --still -- --ref-threshold 0

Panning clips of `--size` are made as lossless video. Each run is a process of its own; a first one, which
does not count, fills the compilation cache. The exit code is 1 if a run fails, or if the peaks differ by more
than 5 %. Clips of few windows (of 240 frames at this size) take less: 300 frames a tenth less than 1,000.
"""

import argparse
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.memory_limits import measured
from ldip_jax.media.writer import open_writer

MOST_APART = 1.05


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--lengths", type=int, nargs="+", default=[1000, 2000], help="frames (default: %(default)s)")
    add("--size", default="64x36", help="of the clips (default: %(default)s)")
    add("--still", action="store_true", help="give a frame in HR as a reference")
    add("options", nargs="*", metavar="-- OPTION", help="further options of ldip upscale")
    return parser.parse_args()


def scene(height: int, width: int) -> np.ndarray:
    """A picture three times as wide as the frames, at HR: `H W 3` in [0, 1]."""
    small = np.random.default_rng(0).integers(0, 256, (12, 40, 3), dtype=np.uint8)
    large = Image.fromarray(small).resize((12 * width, 4 * height), Image.Resampling.BICUBIC)
    return np.asarray(large, np.float32) / 255


def make_clip(path: Path, picture: np.ndarray, frames: int, height: int, width: int) -> Path:
    """A pan over the picture and back, at LR."""
    small = picture.reshape(height, 4, 3 * width, 4, 3).mean(axis=(1, 3))
    with open_writer(path, height=height, width=width, fps=Fraction(25), lossless=True) as writer:
        for number in range(frames):
            place = abs(number % (4 * width) - 2 * width)
            writer.write(np.ascontiguousarray(small[:, place : place + width]))
    return path


def main() -> int:
    args = arguments()
    width, height = map(int, args.size.split("x"))
    picture, peaks, failed = scene(height, width), [], False
    print("frames   peak MB  s a frame", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        still = folder / "still.png"
        Image.fromarray(np.round(picture[:, : 4 * width] * 255).astype(np.uint8)).save(still)
        command = [sys.executable, "-m", "ldip_jax.cli.main", "upscale"]
        for frames in (3, *args.lengths):
            source = make_clip(folder / f"{frames}.mkv", picture, frames, height, width)
            run = [*command, str(source), str(folder / f"{frames}.mp4"), *args.options]
            run += ["--ref", str(still)] if args.still else []
            code, peak, seconds, _, text = measured(run, str(folder / "cache"))
            if code:
                failed = True
                print(f"{frames:6d}   exit code {code}: {text.splitlines()[-1] if text else ''}", flush=True)
            elif frames != 3:
                peaks.append(peak)
                print(f"{frames:6d} {peak / 1e6:9.0f} {seconds / frames:10.3f}", flush=True)
    return int(failed or not peaks or max(peaks) > MOST_APART * min(peaks))


if __name__ == "__main__":
    sys.exit(main())
