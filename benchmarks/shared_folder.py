"""Two processes upscale a folder of clips with `--shard`; one of them is killed.

    python benchmarks/shared_folder.py [--clips 20] [--frames 30] [--seed 0] [-- OPTION ...]

Once a random number of clips are done, one process gets SIGKILL. The other one does the rest; if it has ended
already, the killed one is started again. A case fails if a clip is unfinished in the end, is made twice, or
differs in any byte from what a single process makes, if something else is left behind, or if a process gives
an exit code other than 0. The exit code is 1 after any failure.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.interruptions import digest, make_clip
from ldip_jax.command import at_least


def start(command: list[str], sources: Path, out: Path, log: Path, shard: str | None) -> subprocess.Popen:
    """`ldip upscale` of all clips."""
    words = [*command, str(sources), "--output-dir", str(out), "--log-json", str(log)]
    words += [] if shard is None else ["--shard", shard]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    text, _ = process.communicate()
    return process.returncode, text


def finished(out: Path) -> list[Path]:
    """The clips that are done; names of what is in the works begin with a dot."""
    return [path for path in out.iterdir() if path.name[0] != "."] if out.is_dir() else []


def times_upscaled(log: Path) -> Counter:
    """How often each clip was made, according to the events of a process."""
    if not log.exists():
        return Counter()
    events = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    return Counter(event["clip"] for event in events if event["event"] == "done" and "clip" in event)


def run(
    command: list[str],
    folder: Path,
    clips: int,
    frames: int,
    rng: random.Random,
    size: tuple[int, int] = (18, 32),
) -> list[str]:
    """One case, of clips of this (height, width); returns what failed."""
    sources, whole, out = folder / "in", folder / "whole", folder / "out"
    sources.mkdir()
    for number in range(clips):
        make_clip(sources / f"{number:03d}.mp4", frames, seed=number, size=size)
    began = time.monotonic()
    code, text = finish(start(command, sources, whole, folder / "whole.jsonl", None))
    seconds = time.monotonic() - began
    if code:
        return [f"a single process ended with {code}: {text.splitlines()[-1:]}"]
    logs = [folder / f"{number}.jsonl" for number in range(3)]
    first, second = (start(command, sources, out, logs[i], f"{i}/2") for i in range(2))
    done = rng.randint(1, max(clips // 2, 1))
    while first.poll() is None and len(finished(out)) < done:
        time.sleep(0.02)
    first.kill()
    killed = finish(first)[0] != 0
    failures = []
    code, text = finish(second)
    failures += [f"the process that lived gave the exit code {code}: {text.splitlines()[-1:]}"] * (code != 0)
    if len(finished(out)) < clips:
        code, text = finish(start(command, sources, out, logs[2], "0/2"))
        failures += [f"the last process gave the exit code {code}: {text.splitlines()[-1:]}"] * (code != 0)
    per_process = [sum(times_upscaled(log).values()) for log in logs]
    print(f"{clips} clips, {seconds:.0f} s by one process; killed after {done} clips: {killed};", end=" ")
    print(f"made by the killed one, the other and the last: {per_process}", flush=True)
    twice = [clip for clip, times in sum(map(times_upscaled, logs), Counter()).items() if times > 1]
    failures += [f"{clip}: was made twice" for clip in twice]
    failures += [] if digest(out) == digest(whole) else ["the results differ from those of a single process"]
    return failures


def conclude(failures: list[str]) -> int:
    """Print what failed; returns the exit code."""
    for failure in failures:
        print(failure)
    print(f"{len(failures)} failures")
    return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=at_least(1), default=20, help="(default: %(default)s)")
    parser.add_argument("--frames", type=at_least(1), default=30, help="of each (default: %(default)s)")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the number (default: %(default)s)")
    parser.add_argument("--program", default="ldip_jax.cli.start", help=argparse.SUPPRESS)
    parser.add_argument("options", nargs="*", metavar="-- OPTION", help="further options of ldip upscale")
    args = parser.parse_args(argv)
    command = [sys.executable, "-m", args.program, "upscale", *args.options]
    with tempfile.TemporaryDirectory() as name:
        failures = run(command, Path(name), args.clips, args.frames, random.Random(args.seed))
    return conclude(failures)


if __name__ == "__main__":
    sys.exit(main())
