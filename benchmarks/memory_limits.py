"""Peak memory and time of `ldip upscale --memory SIZE`, by size of the frames.

    python benchmarks/memory_limits.py --clip FRAMES --memory 2G
    python benchmarks/memory_limits.py --clip FRAMES --still A.png --memory 8G --sizes 640x360 --frames 5

Each run is a process of its own, with an empty compilation cache, so that compiling counts. Frames are the
clip's, resized. The exit code is 1 if a run fails, or takes more than one and a quarter times SIZE.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from ldip_jax.memory import parse_size

SLACK = 1.25


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--clip", type=Path, required=True, help="a folder of frames")
    add("--still", type=Path, action="append", default=[], help="a reference; can be repeated")
    add("--memory", default="2G", help="(default: %(default)s)")
    add("--sizes", nargs="+", default=["160x90", "320x180", "640x360"], help="(default: %(default)s)")
    add("--frames", type=int, default=9, help="(default: %(default)s)")
    add("--lrrf", default="default", help="as for `ldip upscale`")
    add("--cache", action="store_true", help="keep the compilation cache, so that compiling does not count")
    return parser.parse_args()


class Measured(NamedTuple):
    """What a process took: peak memory in bytes, seconds, and CPU seconds on all cores together."""

    code: int
    peak: float
    seconds: float
    cpu: float
    text: str


def measured(command: list[str], cache: str | None) -> Measured:
    """Run a process."""
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[1]))
    if cache is not None:
        environment["JAX_COMPILATION_CACHE_DIR"] = cache
    began = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        log.seek(0)
        text = log.read().decode(errors="replace").strip()
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds, cpu = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
    return Measured(process.returncode, usage.ru_maxrss * 1024.0, seconds, cpu, text)


def main() -> int:
    args = arguments()
    limit, exceeded = parse_size(args.memory), False
    paths = sorted(p for p in args.clip.iterdir() if p.suffix.lower() in (".png", ".jpg"))[: args.frames]
    print(f"--memory {args.memory}, {len(paths)} frames, {len(args.still)} stills")
    print("size        tiles    peak MB  share of SIZE  s a frame  CPU s a frame  planned MB", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in args.sizes:
            width, height = map(int, size.split("x"))
            frames = folder / size
            frames.mkdir()
            for number, path in enumerate(paths):
                image = Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BOX)
                image.save(frames / f"{number:04d}.png")
            run = [sys.executable, "-m", "ldip_jax.cli.main", "upscale"]
            run += [str(frames), str(folder / f"{size}.out")]
            run += ["--memory", args.memory, "--lrrf", args.lrrf, "--ref-threshold", "0"]
            run += [*(["--ref", *map(str, args.still)] if args.still else [])]
            cache = None if args.cache else str(folder / f"{size}.cache")
            code, peak, seconds, cpu, text = measured(run, cache)
            plan_file = folder / f"{size}.json"
            measured([*run, "--overwrite", "--dry-run", "--json", str(plan_file)], cache)
            planned = json.loads(plan_file.read_text()) if plan_file.is_file() else None
            tiles = "-" if planned is None else "{backbone}, {detail}".format(**planned["tiles"])
            expected = 0.0 if planned is None else planned["memory"] / 1e6
            over = code != 0 or peak > SLACK * limit
            exceeded |= over
            print(
                f"{size:11s} {tiles:8s} {peak / 1e6:7.0f} {peak / limit:14.2f} {seconds / len(paths):10.2f}"
                f" {cpu / len(paths):14.2f} {expected:11.0f}{'  TOO MUCH' if over and code == 0 else ''}",
                flush=True,
            )
            if code:
                print(f"exit code {code}: {text.splitlines()[-1] if text else ''}", flush=True)
    return int(exceeded)


if __name__ == "__main__":
    sys.exit(main())
