"""A run of several processes with slow disks and killed processes gives the losses of one process.

    python benchmarks/training_processes.py [--steps 50] [--delay 5] [--seed 0]

LRRF on a narrow random backbone learns from synthetic clips. One process trains a run to its end. Then the
same run is trained in turns: by two processes of four devices, until one of them gets SIGTERM; by four
processes of two devices, until one of them gets SIGKILL; and to the end by two processes of one device.
Before it reads a checkpoint, before it writes one and before it finishes writing, each of them waits between
half a second and DELAY seconds.

The exit code is 1 if a loss differs by more than 1e-5 (relative) in the first ten steps or by more than 1e-3
later, if a step is missing or logged twice, if a process gives another exit code than it should, or if the
others do not end within a minute of SIGKILL. Another number of devices adds up gradients in another order,
and Adam amplifies what differs: over 50 steps, eight devices of one process, never stopped, differed from one
device by up to 1.9e-4.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.shared_folder import conclude
from ldip_jax.command import at_least

ROOT = Path(__file__).parents[1]
FIRST, MOST_APART_FIRST, MOST_APART, MOST_SECONDS = 10, 1e-5, 1e-3, 60.0
SETTINGS = {
    "propagate": False,
    "batch_size": 8,
    "log_every": 1,
    "checkpoint_every": 5,
    "data.workers": 0,
    "data.size": (64, 64),
    "data.crop": 16,
    "data.window": 24,
}


def slowly(call: Callable[..., Any], rng: random.Random, most: float) -> Callable[..., Any]:
    """The same function, which waits first."""

    def wait(*args: Any, **options: Any) -> Any:
        time.sleep(rng.uniform(min(0.5, most), most))
        return call(*args, **options)

    return wait


def train(words: Sequence[str], delay: float, seed: int) -> int:
    """`ldip train` in this process, with slow checkpoints."""
    from orbax.checkpoint import v1 as ocp

    from ldip_jax.cli.main import main as ldip
    from ldip_jax.training import checkpoint

    rng = random.Random(seed)
    save, checkpoint._read = ocp.save_async, slowly(checkpoint._read, rng, delay)

    class Response:
        def __init__(self, response: Any):
            self.result = slowly(response.result, rng, delay)

    ocp.save_async = slowly(lambda *args: Response(save(*args)), rng, delay)
    return ldip(["train", *words])


class Launcher:
    """Starts processes that train one run together."""

    def __init__(self, words: Sequence[str], delay: float, rng: random.Random):
        self._words, self._delay, self._rng = list(words), delay, rng

    def start(self, workdir: Path, processes: int, devices: int) -> list[subprocess.Popen]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            coordinator = f"127.0.0.1:{free.getsockname()[1]}"
        environment = dict(os.environ, PYTHONPATH=str(ROOT), JAX_PLATFORMS="cpu")
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        started = []
        for index in range(processes):
            seed = self._rng.randrange(2**31)
            command = [sys.executable, __file__, "--worker", str(self._delay), str(seed)]
            if processes > 1:
                environment |= {"COORDINATOR": coordinator, "PROCESS_ID": str(index)}
                environment |= {"NUM_PROCESSES": str(processes)}
            started.append(
                subprocess.Popen(
                    [*command, *self._words, f"--workdir={workdir}"],
                    env=dict(environment, XLA_FLAGS=flags.strip()),
                    cwd=ROOT,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        return started


def losses(workdir: Path) -> list[tuple[int, float]]:
    """Steps and losses, as logged."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    entries = (json.loads(line) for line in lines if line.endswith("}"))
    return [(entry["step"], entry["loss"]) for entry in entries if "loss" in entry]


def last_step(workdir: Path) -> int:
    """The last step that was logged; 0 if there is none."""
    return max((step for step, _ in losses(workdir)), default=0)


def wait_for(workdir: Path, step: int, processes: Sequence[subprocess.Popen]) -> None:
    """Until a step is logged, or a process has ended."""
    while all(process.poll() is None for process in processes):
        if last_step(workdir) >= step:
            return
        time.sleep(0.1)


def finish(processes: Sequence[subprocess.Popen], code: int, turn: str) -> list[str]:
    """Wait for the end; returns what failed."""
    failures = []
    for index, process in enumerate(processes):
        output, _ = process.communicate()
        if process.returncode != code:
            last = output.strip().splitlines()[-3:]
            failures.append(f"{turn}: process {index} ended with {process.returncode}, not {code}: {last}")
    return failures


def compare(expected: Path, found: Path, steps: int) -> list[str]:
    """What differs between two runs."""
    one, other = losses(expected), losses(found)
    if not [step for step, _ in one] == [step for step, _ in other] == list(range(1, steps + 1)):
        return [f"steps are missing or logged twice: {[step for step, _ in other]}"]
    apart = [abs(b / a - 1.0) for (_, a), (_, b) in zip(one, other, strict=True)]
    first, most = max(apart[:FIRST]), max(apart)
    print(f"{len(one)} steps; losses from {one[0][1]:.4f} to {one[-1][1]:.4f}")
    print(f"at most {first:.1e} apart in the first {FIRST}, {most:.1e} in all")
    return ["losses are too far apart"] * (first > MOST_APART_FIRST or most > MOST_APART)


def run(folder: Path, steps: int, delay: float, rng: random.Random) -> list[str]:
    """All turns; returns what failed."""
    from tests.networks import write_networks

    networks = write_networks(folder)
    settings = SETTINGS | {"backbone": networks.backbone, "init_from": networks.trained, "steps": steps}
    words = ["--config=ldip_basicvsr_x4:debug", *(f"--config.{name}={v}" for name, v in settings.items())]
    one, several = folder / "one", folder / "several"
    failures = finish(Launcher(words, 0.0, rng).start(one, 1, 1), 0, "one process")
    launcher = Launcher(words, delay, rng)

    pair = launcher.start(several, 2, 4)
    wait_for(several, rng.randint(steps // 10, steps // 3), pair)
    pair[rng.randrange(2)].send_signal(signal.SIGTERM)
    failures += finish(pair, 143, "SIGTERM to one of two")
    print(f"two processes stopped after step {last_step(several)}", flush=True)

    four = launcher.start(several, 4, 2)
    wait_for(several, rng.randint(steps // 2, 4 * steps // 5), four)
    victim = four.pop(rng.randrange(1, 4))
    victim.kill()
    killed = time.monotonic()
    victim.communicate()
    codes = []
    for process in four:
        process.communicate()
        codes.append(process.returncode)
    seconds = time.monotonic() - killed
    failures += ["SIGKILL: a process went on to the end"] * (0 in codes)
    failures += [f"SIGKILL: the others took {seconds:.0f} s to end"] * (seconds > MOST_SECONDS)
    print(f"one of four killed; step {last_step(several)}; the others took {seconds:.0f} s", flush=True)

    failures += finish(launcher.start(several, 2, 1), 0, "to the end")
    return failures + compare(one, several, steps)


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--worker"]:
        return train(words[3:], float(words[1]), int(words[2]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=at_least(2), default=50, help="(default: %(default)s)")
    parser.add_argument("--delay", type=float, default=5.0, help="seconds at most (default: %(default)s)")
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="of delays and signals (default: %(default)s)"
    )
    args = parser.parse_args(words)
    if not args.delay >= 0.0:
        parser.error(f"--delay {args.delay:g}: give 0 or more seconds")
    with tempfile.TemporaryDirectory() as name:
        failures = run(Path(name), args.steps, args.delay, random.Random(args.seed))
    return conclude(failures)


if __name__ == "__main__":
    sys.exit(main())
