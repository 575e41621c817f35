"""The `ldip` command: exit codes, and nothing but one line whatever ends it."""

import errno
import os
import re
import signal
import subprocess
import sys

import pytest

import ldip_jax
from ldip_jax.cli import info
from ldip_jax.cli.main import COMMANDS, main
from ldip_jax.errors import InputError


@pytest.fixture
def ending(ldip, monkeypatch):
    """Runs a command that ends with an error."""

    def run(error):
        def fail(args):
            print("a line of output")
            raise error

        monkeypatch.setattr(info, "run", fail)
        return ldip("info")

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("a.png: is no image"), 2, "ldip: a.png: is no image"),
        (KeyboardInterrupt(), 130, "ldip: interrupted"),
        (MemoryError(), 2, "ldip: out of memory; smaller frames or a smaller --scale need less"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."), 2, "ldip: out of memory; "),
    ],
)
def test_exit_codes(ending, error, code, said):
    done = ending(error)
    assert done.code == code
    assert done.out == "a line of output\n"
    assert done.complaint.startswith(said)


def test_a_bug_is_no_fault_of_the_user(ending):
    """Python then prints the traceback, which a report needs, and exits with 1."""
    with pytest.raises(KeyError):
        ending(KeyError("bug"))


def test_names_that_are_no_text_can_be_printed(tmp_path):
    """A subprocess, since the streams of this one take anything."""
    name = os.fsencode(tmp_path) + b"/\xff\xfe.mp4"
    done = subprocess.run(
        [sys.executable, "-m", "ldip_jax.cli.main", "upscale", name, "out"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.endswith(b"\\udcff\\udcfe.mp4: no such file or folder; check the name\n")
    assert done.stderr.count(b"\n") == 1


STUB = """
import sys
from ldip_jax.cli import info
from ldip_jax.cli.main import main
def run(args):
    for number in range(100000):
        print("many lines of output", number)
    return 0
info.run = run
sys.exit(main(["info"]))
"""


def test_a_reader_that_has_seen_enough():
    with subprocess.Popen(
        [sys.executable, "-c", STUB], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "many lines of output 0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_standard_output_on_a_full_disk():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", STUB], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "ldip: cannot write: no space left on the disk\n"


def test_a_full_disk_names_its_file(ending, monkeypatch):
    monkeypatch.setattr("ldip_jax.cli.main._print_no_more", lambda: None)
    done = ending(OSError(errno.ENOSPC, "No space left on device", "/cache/file"))
    assert done.code == 2
    assert done.complaint == "ldip: /cache/file: no space left on the disk"
    with pytest.raises(PermissionError):
        ending(PermissionError(errno.EACCES, "no"))


def test_an_ignored_hang_up_stays_ignored(ldip, monkeypatch):
    """As under nohup."""
    seen = {}

    def look(args):
        seen.update({number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)})
        return 0

    monkeypatch.setattr(info, "run", look)
    kept = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        assert ldip("info").code == 0
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    assert seen == {signal.SIGHUP: signal.SIG_IGN, signal.SIGTERM: signal.default_int_handler}


def test_help_names_every_command_and_exit_code(ldip):
    done = ldip("--help")
    assert done.code == 0
    for command in ("upscale", "compare", "info", "weights", "demo"):
        assert command in COMMANDS
        assert re.search(rf"^ +{command} +\w", done.out, re.M)
    assert "exit codes: 0 done, 1 " in done.out
    assert "2 something about the input, 130 interrupted" in done.out


def test_version_and_missing_or_unknown_commands(ldip):
    assert ldip("--version").out == f"ldip {ldip_jax.__version__}\n"
    for words in ((), ("enlarge",), ("upscale",)):
        done = ldip(*words)
        assert done.code == 2
        assert "error: " in done.err


def test_help_does_not_wait_for_jax():
    program = (
        "import sys; from ldip_jax.cli.main import build_parser; build_parser();"
        "print([name for name in ('jax', 'numpy', 'av') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_main_is_what_the_console_script_calls():
    assert main.__module__ == "ldip_jax.cli.main"
