"""One device, eight devices and two processes give the same run."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.compilation import hardly_optimised
from tests.networks import Networks, write_networks
from tests.training import tiny_run

ROOT = Path(__file__).parents[2]
# In seconds; a busy machine may need many.
PATIENCE = float(os.environ.get("LDIP_TEST_PATIENCE", "200"))


def losses(workdir: Path) -> dict[int, float]:
    """Losses by step, as logged; no step is logged twice."""
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert len({entry["step"] for entry in entries}) == len(entries)
    return {entry["step"]: entry["loss"] for entry in entries}


def begin(workdir: Path, steps: int, pause: float = 0.0, **environment: str) -> subprocess.Popen:
    return begin_module("tests.training.tiny_run", str(workdir), str(steps), str(pause), **environment)


def begin_module(name: str, *arguments: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", name, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def with_devices(count: int) -> str:
    """XLA's flags for `count` devices."""
    return f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"


def two_processes() -> list[dict[str, str]]:
    """The environment variables that connect two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        {"COORDINATOR": f"127.0.0.1:{port}", "NUM_PROCESSES": "2", "PROCESS_ID": str(index)}
        for index in range(2)
    ]


def begin_train(workdir: Path, networks: Networks, **environment: str) -> subprocess.Popen:
    """`train.py` itself, three steps of only key-frames: HRIP is slow to compile and adds no exchange."""
    settings = {"backbone": networks.backbone, "init_from": networks.trained, "propagate": False, "steps": 3}
    settings |= {"log_every": 1, "validate_every": 2, "checkpoint_every": 2, "validation_samples": 1}
    settings |= {"data.size": (64, 64), "data.crop": 16, "data.window": 24}
    flags = [f"--config.{name}={value}" for name, value in settings.items()]
    config = "--config=configs/ldip_basicvsr_x4.py:debug"
    return subprocess.Popen(
        [sys.executable, "train.py", config, f"--workdir={workdir}", *flags],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": hardly_optimised(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen, code: int = 0) -> str:
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, output
    return output


def reported(process: subprocess.Popen) -> dict[str, Any]:
    """The JSON that it printed; the library that connects processes prints too."""
    return json.loads(next(line for line in ended(process).splitlines() if line.startswith("{")))


def wait_for_step(workdir: Path, step: int) -> None:
    path = workdir / "metrics.jsonl"
    until = time.monotonic() + PATIENCE
    while not path.exists() or path.read_text().count("\n") < step:
        assert time.monotonic() < until
        time.sleep(0.02)


class Survivor(NamedTuple):
    """A process whose partner was killed: its run, how it ended, what it printed, and seconds until then."""

    workdir: Path
    code: int
    output: str
    seconds: float


@pytest.fixture(scope="module")
def survivor(tmp_path_factory) -> Iterator[Future[Survivor]]:
    """It takes half a minute to notice, while other tests run."""
    workdir = tmp_path_factory.mktemp("killed")
    processes = [begin(workdir, 10, 0.5, **environment) for environment in two_processes()]
    wait_for_step(workdir, 3)
    processes[1].kill()
    killed = time.monotonic()

    def wait() -> Survivor:
        output, _ = processes[0].communicate(timeout=PATIENCE)
        return Survivor(workdir, processes[0].returncode, output, time.monotonic() - killed)

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(wait)
    processes[1].communicate()


@pytest.fixture(scope="module")
def one_device(tmp_path_factory) -> Path:
    """Ten steps on one device."""
    workdir = tmp_path_factory.mktemp("one_device")
    assert tiny_run.run(workdir, 10) == 0
    return workdir


def assert_same_losses(workdir: Path, one_device: Path) -> None:
    expected = losses(one_device)
    found = losses(workdir)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[step] for step in expected], list(expected.values()), rtol=2e-5)


# Started with the first test, so that the others need not wait for it.
@pytest.mark.usefixtures("survivor")
def test_eight_devices_train_as_one_and_resume_a_run_of_one_device(tmp_path, one_device):
    assert tiny_run.run(tmp_path, 4) == 0
    ended(begin(tmp_path, 10, XLA_FLAGS=with_devices(8)))
    assert_same_losses(tmp_path, one_device)


def test_two_processes_train_as_one_stop_together_and_are_resumed_by_one(tmp_path, one_device):
    processes = [begin(tmp_path, 10, 0.5, **environment) for environment in two_processes()]
    wait_for_step(tmp_path, 2)
    processes[1].send_signal(signal.SIGTERM)
    outputs = [ended(process, 143) for process in processes]
    # Only the first process prints and logs.
    assert "step 1/10" in outputs[0]
    assert "step 1/10" not in outputs[1]
    stopped = max(losses(tmp_path))
    assert 2 <= stopped < 10
    assert f"stopping after step {stopped}" in outputs[0]
    assert tiny_run.run(tmp_path, 10) == 0
    assert_same_losses(tmp_path, one_device)


def test_a_loss_on_features_is_the_same_on_one_device_and_two_processes():
    """Its divisor is computed from all samples, although each device sees only its own."""
    found = reported(begin_module("tests.training.agreement", "loss", XLA_FLAGS=with_devices(2)))
    assert found["1"]["loss"] > 1.0
    for name, value in found["1"].items():
        np.testing.assert_allclose(found["2"][name], value, rtol=1e-4)


def test_processes_agree_on_the_scale_of_features():
    """Each of them measures another scale."""
    both = [
        begin_module("tests.training.agreement", "scale", **environment) for environment in two_processes()
    ]
    found = [reported(process) for process in both]
    assert found[0]["own"] != found[1]["own"]
    assert found[0]["scale"] == found[1]["scale"] == found[0]["own"]


def test_two_processes_of_train_py_validate_and_store_as_one(tmp_path):
    networks, one, both = write_networks(tmp_path), tmp_path / "one", tmp_path / "both"
    ended(begin_train(one, networks))
    outputs = [
        ended(process) for process in [begin_train(both, networks, **part) for part in two_processes()]
    ]
    assert "step 3: done" in outputs[0]
    assert "step" not in outputs[1]
    entries = [
        [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        for workdir in (one, both)
    ]
    assert len(entries[0]) == len(entries[1]) == 5
    for expected, found in zip(*entries, strict=True):
        assert found.keys() == expected.keys()
        for name in expected.keys() & {"step", "loss", "grad_norm", "validation/psnr", "validation/gain"}:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4, err_msg=name)
    assert "validation/psnr" in entries[0][2]
    stored = [sorted(path.name for path in run.glob("checkpoints/0*")) for run in (one, both)]
    assert stored == [["00000002", "00000003"]] * 2
    assert (both / "export.safetensors").stat().st_size == (one / "export.safetensors").stat().st_size


def test_a_killed_process_ends_the_others_within_a_minute_and_the_run_resumes(survivor, one_device):
    workdir, code, output, seconds = survivor.result()
    assert seconds < 60
    assert code != 0
    assert output.strip()
    assert 2 <= max(losses(workdir)) < 10
    assert tiny_run.run(workdir, 10) == 0
    assert_same_losses(workdir, one_device)
