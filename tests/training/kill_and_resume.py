"""Kill a training run with SIGKILL at random moments, resume it, and compare it with an uninterrupted run.

python -m tests.training.kill_and_resume --trials 20            # the tiny run of the tests
python -m tests.training.kill_and_resume --trials 10 --config configs/ldip_basicvsr_x4.py:debug
"""

import argparse
import json
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orbax.checkpoint import v1 as ocp

from tests.training import tiny_run


def train_tiny(workdir: Path, steps: int, pause: float) -> None:
    """The tiny run, as a process."""
    sys.exit(tiny_run.run(workdir, steps, pause))


def train_config(workdir: Path, steps: int, path: str, *overrides: str) -> None:
    """The run of `ldip train` with this config, with a checkpoint after every other step."""
    from ldip_jax.training.config_flags import read_config
    from ldip_jax.training.loop import train

    config = read_config(path, overrides)
    config.steps, config.log_every, config.checkpoint_every = steps, 1, 2
    sys.exit(train(config, workdir))


def steps_done(workdir: Path) -> int:
    """The number of complete entries in the log."""
    path = workdir / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def wait_for_step(workdir: Path, is_running: Callable[[], bool]) -> None:
    """Return when the run has logged another step. It first removes entries of steps that it will repeat."""
    before = steps_done(workdir)
    while is_running() and (now := steps_done(workdir)) <= before:
        before = now
        time.sleep(0.005)


def losses(workdir: Path) -> dict[int, float]:
    """Losses by step, as logged; no step is logged twice."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    entries = [line for line in lines if "loss" in line]
    assert len({entry["step"] for entry in entries}) == len(entries)
    return {entry["step"]: entry["loss"] for entry in entries}


def assert_same(expected: Path, found: Path) -> None:
    """The losses are the same, and so is the newest checkpoint, bit for bit."""
    assert losses(found) == losses(expected)
    stored = [ocp.load(str(max(run.glob("checkpoints/0*"))))["arrays"] for run in (expected, found)]
    assert stored[0].keys() == stored[1].keys()
    for name, array in stored[0].items():
        assert array.dtype == stored[1][name].dtype, name
        assert array.tobytes() == stored[1][name].tobytes(), name


def typical_step(workdir: Path) -> float:
    """The median number of seconds per step."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return 1.0 / statistics.median(line["steps_per_second"] for line in lines if "steps_per_second" in line)


class Trials:
    """Processes of one kind of run, forked from a process that has already imported everything."""

    def __init__(self, target: Callable[..., None], steps: int, *options: Any, seed: int = 0):
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["ldip_jax.training.loop", "tests.training.tiny_run"])
        self._target, self._steps, self._options = target, steps, options
        self._random = random.Random(seed)

    def begin(self, workdir: Path) -> Any:
        """A process that trains."""
        process = self._context.Process(target=self._target, args=(workdir, self._steps, *self._options))
        process.start()
        return process

    def finish(self, workdir: Path) -> None:
        """Train to the end."""
        process = self.begin(workdir)
        process.join()
        assert process.exitcode == 0, process.exitcode

    def kill_once(self, workdir: Path, step_seconds: float) -> bool:
        """Train, and kill at a random moment; False if the run ended before that moment.

        One in five may be killed while it starts; the others complete between one step and two thirds of all.
        """
        process = self.begin(workdir)
        if self._random.random() > 0.2:
            wait_for_step(workdir, process.is_alive)
        process.join(self._random.uniform(0.0, 0.67 * self._steps * step_seconds))
        killed = process.is_alive()
        process.kill()
        process.join()
        return killed


def main() -> int:
    """As a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=10, metavar="N")
    parser.add_argument("--steps", type=int, default=12, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", help="train this instead of the tiny run; --config.NAME=VALUE too")
    args, overrides = parser.parse_known_args()
    if args.config:
        trials = Trials(train_config, args.steps, args.config, *overrides, seed=args.seed)
    else:
        trials = Trials(train_tiny, args.steps, 0.05, seed=args.seed)
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder, "reference")
        trials.finish(reference)
        step_seconds = typical_step(reference)
        print(f"never stopped: {args.steps} steps, {step_seconds:.2f} s each", flush=True)
        kills = runs = 0
        # At most three kills per run, so that runs make progress.
        while kills < args.trials:
            runs += 1
            workdir = Path(folder, f"run{runs}")
            for _ in range(min(3, args.trials - kills)):
                if not trials.kill_once(workdir, step_seconds):
                    break
                kills += 1
                stored = sorted(path.name for path in workdir.glob("checkpoints/0*"))
                print(f"kill {kills}: {steps_done(workdir)} steps logged, stored {stored}", flush=True)
            trials.finish(workdir)
            assert_same(reference, workdir)
            print(f"run {runs}: bit for bit the same", flush=True)
    print(f"{kills} kills in {runs} runs, all the same as the run that was never stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
