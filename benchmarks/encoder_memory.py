"""Memory that video encoders take, against what `ldip upscale --memory` plans for them.

    python benchmarks/encoder_memory.py
    python benchmarks/encoder_memory.py --size 1920x1080 --codecs h264 av1

Each codec writes frames of noise over a moving pattern, in a process of its own. The growth of the peak after
the first frames are made is compared with the plan. The exit code is 1 if an encoder exceeds the plan by more
than a tenth plus 64 MB: what it takes at any size is covered by what plans reserve for the process itself.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from ldip_jax.media.coding import CODECS
from ldip_jax.media.writer import open_writer

SLACK, FIXED = 1.1, 64e6
SUFFIXES = {"prores": "mov", "ffv1": "mkv"}
# More frames than any encoder holds back.
FRAMES = 90


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--size", default="1280x720", metavar="WIDTHxHEIGHT", help="of the frames (default: %(default)s)")
    add("--codecs", nargs="+", choices=CODECS, default=list(CODECS), help="(default: all)")
    add("--frames", type=int, default=FRAMES, help="(default: %(default)s)")
    add("--measure", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def peak() -> int:
    """The peak of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(codec: str, bits: int, width: int, height: int, frames: int) -> dict[str, int]:
    """Bytes by which the peak grows, and bytes planned."""
    rng = np.random.default_rng(0)
    pattern = rng.random((height // 8 + 1, width // 8 + frames + 1, 3), np.float32)
    wide = pattern.repeat(8, axis=0).repeat(8, axis=1)[:height]

    def frame(number: int) -> np.ndarray:
        shown = wide[:, 4 * number : 4 * number + width]
        noise = 0.03 * rng.standard_normal((height, width, 1), np.float32)
        return np.clip(shown + noise, 0.0, 1.0)

    for number in (0, 1):
        frame(number)
    before = peak()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"out.{SUFFIXES.get(codec, 'mp4')}"
        depth = 16 if bits > 8 else 8
        options = {"height": height, "width": width, "fps": Fraction(25), "bit_depth": depth}
        with open_writer(path, codec=codec, **options) as writer:
            for number in range(frames):
                writer.write(frame(number))
        return {"grown": peak() - before, "planned": writer.held_bytes(frames)}


def main() -> int:
    args = arguments()
    width, height = map(int, args.size.split("x"))
    if args.measure:
        codec, bits = args.measure
        print(json.dumps(measure(codec, int(bits), width, height, args.frames)))
        return 0
    over = False
    print(f"{args.frames} frames of {args.size}\ncodec   bits     MB  planned  bytes a pixel", flush=True)
    for codec in args.codecs:
        for bits in CODECS[codec].bits:
            if bits == 8 and codec == "prores":
                continue
            words = ["--size", args.size, "--frames", str(args.frames), "--measure", codec, str(bits)]
            done = subprocess.run(
                [sys.executable, __file__, *words], capture_output=True, text=True, check=False
            )
            if done.returncode:
                print(f"{codec}: {done.stderr.strip().splitlines()[-1]}")
                over = True
                continue
            found = json.loads(done.stdout)
            much = found["grown"] > SLACK * found["planned"] + FIXED
            over |= much
            print(
                f"{codec:7s} {bits:4d} {found['grown'] / 1e6:6.0f} {found['planned'] / 1e6:8.0f}"
                f" {found['grown'] / width / height:14.0f}{'  TOO MUCH' if much else ''}",
                flush=True,
            )
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
