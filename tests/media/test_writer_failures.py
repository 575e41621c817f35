"""What `open_writer` leaves behind when it cannot write, or is stopped."""

import errno
import os
import signal
import subprocess
import sys
import time

import av
import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.media.sinks import VideoSink
from ldip_jax.media.writer import open_writer
from tests.media.make import moving, write


@pytest.mark.parametrize("name", ["new/deep/a.mp4", "new/deep/a.mkv", "new/deep/frames", "new/deep/a.png"])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError, OSError])
def test_a_failure_leaves_nothing(tmp_path, rng, name, failure):
    frames = moving(rng, 3, 32, 32)

    def run():
        with open_writer(tmp_path / name, height=32, width=32) as writer:
            writer.write(frames[0])
            raise failure("mine")

    with pytest.raises(failure, match="mine"):
        run()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a.mp4", "frames", "a.png"])
def test_a_failure_keeps_existing_files(tmp_path, rng, name):
    frames = moving(rng, 1, 32, 32)
    write(tmp_path / name, frames)
    before = {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()}

    def run():
        with open_writer(tmp_path / name, height=32, width=32, overwrite=True) as writer:
            writer.write(1 - frames[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()} == before


@pytest.mark.parametrize("name", ["a.mp4", "frames", "a.png"])
def test_writing_nothing_or_a_wrong_size_is_a_programming_error(tmp_path, name):
    with (
        pytest.raises(ValueError, match="no frame was written"),
        open_writer(tmp_path / name, height=8, width=8),
    ):
        pass
    with (
        pytest.raises(ValueError, match="for an output of"),
        open_writer(tmp_path / name, height=8, width=8) as writer,
    ):
        writer.write(np.zeros((8, 9, 3), np.float32))
    assert os.listdir(tmp_path) == []


LIMITED = """
import resource, signal, sys
import numpy as np
from ldip_jax.errors import InputError
from ldip_jax.media.writer import open_writer
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
rng = np.random.default_rng(0)
try:
    with open_writer(sys.argv[1], height=64, width=96, crf=0) as writer:
        for _ in range(int(sys.argv[2])):
            writer.write(rng.random((64, 96, 3), dtype=np.float32))
except InputError as error:
    print(error)
    sys.exit(2)
"""


@pytest.mark.parametrize("name", ["new/a.mp4", "new/a.mkv", "new/frames", "new/a.png"])
@pytest.mark.parametrize("count", [1, 60])
def test_a_real_limit_of_the_file_system_is_reported(tmp_path, name, count):
    command = [sys.executable, "-c", LIMITED, str(tmp_path / name), "1" if ".png" in name else str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout.count("\n") == 1
    assert os.strerror(errno.EFBIG) in done.stdout
    assert os.listdir(tmp_path) == []


def test_a_full_disk_while_writing_is_reported(tmp_path, rng, monkeypatch):
    real = os.fsync
    frames = moving(rng, 3, 32, 32)
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) >= 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"/out: cannot be written \(No space left on device\)"):
        write(tmp_path / "out", frames)
    with pytest.raises(InputError, match=r"a\.mp4: cannot be written \(No space left on device\)"):
        write(tmp_path / "a.mp4", frames)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("method", ["write", "finish"])
def test_a_refusal_by_the_container_is_reported_in_one_line(tmp_path, rng, monkeypatch, method):
    def refuse(*_):
        raise av.error.ArgumentError(22, "Invalid argument")

    monkeypatch.setattr(VideoSink, method, refuse)
    with pytest.raises(InputError, match=r"a\.mp4: cannot be written \(Invalid argument\); choose another"):
        write(tmp_path / "a.mp4", moving(rng, 2, 32, 32))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="the system has no such scheduling")
def test_an_encoder_does_not_take_over_the_machine(tmp_path, rng):
    """SVT-AV1 makes its process real-time where that is allowed."""
    before = os.sched_getscheduler(0)
    write(tmp_path / "a.mp4", moving(rng, 2, 64, 64), codec="av1")
    threads = [int(name) for name in os.listdir("/proc/self/task")]
    assert {os.sched_getscheduler(thread) for thread in threads} == {before}


def test_no_python_runs_while_the_library_writes(tmp_path, rng, monkeypatch):
    """An exception in there would be lost, even that of Ctrl-C."""
    opened = []
    real = av.open

    def spy(file, *args, **options):
        opened.append(file)
        return real(file, *args, **options)

    monkeypatch.setattr(av, "open", spy)
    write(tmp_path / "a.mp4", moving(rng, 2, 32, 32))
    assert opened
    assert all(isinstance(file, str) for file in opened)


INTERRUPTED = """
import sys, time
import numpy as np
from ldip_jax.media.writer import open_writer
with open_writer(sys.argv[1], height=64, width=96) as writer:
    print("ready", flush=True)
    while True:
        writer.write(np.random.default_rng().random((64, 96, 3), dtype=np.float32))
"""


@pytest.mark.parametrize("name", ["new/a.mp4", "new/frames"])
def test_ctrl_c_leaves_nothing(tmp_path, name):
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / name)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors
    assert os.listdir(tmp_path) == []
