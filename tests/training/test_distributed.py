"""One device, eight, or two processes: the same run."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.training import tiny_run

# Seconds; a machine that is busy with other things may need many.
PATIENCE = float(os.environ.get("LDIP_TEST_PATIENCE", "200"))


def losses(workdir: Path) -> dict[int, float]:
    """Losses by step, as logged; no step is there twice."""
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert len({entry["step"] for entry in entries}) == len(entries)
    return {entry["step"]: entry["loss"] for entry in entries}


def begin(workdir: Path, steps: int, pause: float = 0.0, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "tests.training.tiny_run",
            str(workdir),
            str(steps),
            str(pause),
        ],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def begin_two(workdir: Path, steps: int, pause: float = 0.0) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        begin(
            workdir,
            steps,
            pause,
            COORDINATOR=f"127.0.0.1:{port}",
            NUM_PROCESSES="2",
            PROCESS_ID=str(index),
        )
        for index in range(2)
    ]


def ended(process: subprocess.Popen, code: int = 0) -> str:
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, output
    return output


def wait_for_step(workdir: Path, step: int) -> None:
    path = workdir / "metrics.jsonl"
    until = time.monotonic() + PATIENCE
    while not path.exists() or path.read_text().count("\n") < step:
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """Ten steps on one device."""
    workdir = tmp_path_factory.mktemp("alone")
    assert tiny_run.run(workdir, 10) == 0
    return workdir


def assert_same_losses(workdir: Path, alone: Path) -> None:
    expected = losses(alone)
    found = losses(workdir)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[step] for step in expected], list(expected.values()), rtol=2e-5)


def test_eight_devices_train_as_one_and_go_on_where_another_number_stopped(tmp_path, alone):
    assert tiny_run.run(tmp_path, 4) == 0
    ended(begin(tmp_path, 10, XLA_FLAGS="--xla_force_host_platform_device_count=8"))
    assert_same_losses(tmp_path, alone)


def test_two_processes_train_as_one_stop_together_and_go_on_as_one(tmp_path, alone):
    processes = begin_two(tmp_path, 10, pause=0.5)
    wait_for_step(tmp_path, 2)
    processes[1].send_signal(signal.SIGTERM)
    outputs = [ended(process, 143) for process in processes]
    # The first process alone tells and logs.
    assert "step 1/10" in outputs[0]
    assert "step 1/10" not in outputs[1]
    stopped = max(losses(tmp_path))
    assert 2 <= stopped < 10
    assert f"stopping after step {stopped}" in outputs[0]
    assert tiny_run.run(tmp_path, 10) == 0
    assert_same_losses(tmp_path, alone)
