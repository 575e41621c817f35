"""Interrupts `ldip upscale` at random moments, resumes it, and compares the output, byte by byte.

    python benchmarks/interruptions.py [--kills N] [--rounds N] [--output NAME ...] [-- OPTION ...]

For each kind of output, a clip with sound is made and upscaled once. Then the same run is interrupted at
random moments (kill -9, SIGTERM and Ctrl-C in turn) and resumed, again and again until it is complete.
A case fails if the output differs in any byte, if something else is left beside it, if a signal gives an exit
code other than 143 or 130, or if a traceback is printed. The exit code is 1 after any failure.
"""

import argparse
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from ldip_jax.command import at_least

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
OUTPUTS = ("b.mp4", "b.mkv", "frames")
SIZE = (36, 64)


def make_clip(path: Path, frames: int, seed: int, size: tuple[int, int] = SIZE) -> Path:
    """A panning clip with sound; `size` is (height, width)."""
    from tests.media.make import make_video, moving

    pictures = moving(np.random.default_rng(seed), frames, *size)
    return make_video(path, pictures, sound=frames / 25, rate=Fraction(25))


def digest(path: Path) -> dict[str, str]:
    """Every file of an output, with a hash of its content."""
    files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


class Case:
    """One output: a command, and how long it takes when nothing interrupts it."""

    def __init__(self, command: Sequence[str], source: Path, reference: Path, out: Path):
        self._command, self._source, self._out = list(command), source, out
        began = time.monotonic()
        process = self._start(reference)
        process.communicate()
        if process.returncode:
            raise SystemExit(f"the uninterrupted run ended with {process.returncode}")
        self.seconds = time.monotonic() - began
        self._expected = digest(reference)

    def _start(self, out: Path, *words: str) -> subprocess.Popen:
        words = (*self._command, str(self._source), str(out), *words)
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, kills: int, rng: random.Random) -> tuple[int, int, list[str]]:
        """Interrupt at most `kills` times; returns how often, how many runs resumed, and failures."""
        failures: list[str] = []
        survived = resumed = 0
        for number in range(kills):
            process = self._start(self._out, "--resume")
            try:
                process.wait(timeout=rng.uniform(0.0, 1.3) * self.seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(SIGNALS[number % len(SIGNALS)])
            _, err = process.communicate()
            resumed += "continues after" in err
            failures += self._judge(number, process.returncode, err)
            if process.returncode == 0:
                break
            survived += 1
        process = self._start(self._out, "--resume")
        _, err = process.communicate()
        resumed += "continues after" in err
        if process.returncode:
            failures.append(f"the last run ended with {process.returncode}: {err.splitlines()[-1:]}")
        if digest(self._out) != self._expected:
            failures.append("the output differs from that of an uninterrupted run")
        left = [path.name for path in self._out.parent.iterdir() if path != self._out]
        if left:
            failures.append(f"left behind: {', '.join(left)}")
        return survived, resumed, failures

    def _judge(self, number: int, code: int, err: str) -> list[str]:
        sent = SIGNALS[number % len(SIGNALS)]
        # Until the program handles signals, they end it directly.
        expected = {0, -sent} | ({128 + sent} if sent != signal.SIGKILL else set())
        wrong = (
            [] if code in expected else [f"{sent.name} gave the exit code {code}: {err.splitlines()[-1:]}"]
        )
        return wrong + (["a traceback was printed"] if "Traceback" in err else [])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kills", type=at_least(1), default=6, help="in a row, at most (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=at_least(1), default=1, help="of each output (default: %(default)s)")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--frames", type=at_least(1), default=600, help="of the clip (default: %(default)s)")
    parser.add_argument("--size", default="64x36", help="of the clip (default: %(default)s)")
    parser.add_argument("--output", nargs="+", default=OUTPUTS, help="their names (default: %(default)s)")
    parser.add_argument("--program", default="ldip_jax.cli.start", help=argparse.SUPPRESS)
    parser.add_argument("options", nargs="*", metavar="-- OPTION", help="further options of ldip upscale")
    args = parser.parse_args(argv)
    command = [sys.executable, "-m", args.program, "upscale", *args.options]
    rng = random.Random(args.seed)
    total, failed = 0, []
    print(f"{'output':12}{'seconds':>9}{'interrupted':>13}{'resumed':>9}{'failures':>10}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        width, height = map(int, args.size.split("x"))
        source = make_clip(folder / "in.mp4", args.frames, args.seed, (height, width))
        for output in args.output:
            (folder / f"whole-{output}").mkdir()
            (folder / f"cut-{output}").mkdir()
            out = folder / f"cut-{output}" / output
            case = Case(command, source, folder / f"whole-{output}" / output, out)
            for _ in range(args.rounds):
                survived, resumed, failures = case.run(args.kills, rng)
                total += survived
                failed += [f"{output}: {failure}" for failure in failures]
                print(f"{output:12}{case.seconds:9.1f}{survived:13}{resumed:9}{len(failures):10}", flush=True)
                for path in [out] if out.is_file() else sorted(out.iterdir()) if out.is_dir() else []:
                    path.unlink()
                if out.is_dir():
                    out.rmdir()
    for failure in failed:
        print(failure)
    print(f"{total} interruptions survived, {len(failed)} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
