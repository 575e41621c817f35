"""The `ldip` command: exit codes, and a single line whatever ends it."""

import errno
import importlib.util
import os
import pwd
import re
import signal
import subprocess
import sys

import pytest

import ldip_jax
from ldip_jax.cli import info
from ldip_jax.cli.main import COMMANDS, main
from ldip_jax.command import with_dashes
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
    ("error", "code", "message"),
    [
        (InputError("a.png: is not an image"), 2, "ldip: a.png: is not an image"),
        (KeyboardInterrupt(), 130, "ldip: interrupted"),
        (MemoryError(), 2, "ldip: out of memory; smaller frames or a smaller --scale need less"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."), 2, "ldip: out of memory; "),
    ],
)
def test_exit_codes(ending, error, code, message):
    done = ending(error)
    assert done.code == code
    assert done.out == "a line of output\n"
    assert done.message.startswith(message)


def test_a_bug_is_not_reported_as_invalid_input(ending):
    """Python prints the traceback, which a bug report needs, and exits with 1."""
    with pytest.raises(KeyError):
        ending(KeyError("bug"))


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize backend 'cuda'")])
def test_a_missing_device(ending, monkeypatch, error):
    import jax

    def none():
        raise AssertionError

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", none)
    done = ending(error)
    assert done.code == 2
    assert done.message == ("ldip: JAX_PLATFORMS=cuda: jax finds no such device; unset it, or set it to cpu")


def test_no_home_folder(ldip, monkeypatch):
    for name in ("HOME", "LDIP_CACHE", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda number: {}[number])
    done = ldip("weights", "list")
    assert done.code == 2
    assert done.message == "ldip: no home folder is known; set LDIP_CACHE to a folder for weights"
    monkeypatch.setenv("LDIP_CACHE", "~no such user/x")
    done = ldip("weights", "list")
    assert done.code == 2
    assert done.message == "ldip: LDIP_CACHE=~no such user/x: there is no such user; give a full path"


def test_names_that_are_not_valid_text_can_be_printed(tmp_path):
    """In a subprocess, because the streams of this process accept anything."""
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


def test_a_reader_that_closes_the_pipe_early():
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


def test_the_error_of_a_full_disk_names_the_file(ending, monkeypatch):
    monkeypatch.setattr("ldip_jax.command._print_no_more", lambda: None)
    done = ending(OSError(errno.ENOSPC, "No space left on device", "/cache/file"))
    assert done.code == 2
    assert done.message == "ldip: /cache/file: no space left on the disk"
    with pytest.raises(PermissionError):
        ending(PermissionError(errno.EACCES, "no"))


def test_an_ignored_hang_up_stays_ignored(ldip, monkeypatch):
    """As under nohup."""
    seen = {}

    def record(args):
        seen.update({number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)})
        return 0

    monkeypatch.setattr(info, "run", record)
    kept = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        assert ldip("info").code == 0
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    assert seen[signal.SIGHUP] == signal.SIG_IGN
    assert callable(seen[signal.SIGTERM])


def test_help_names_every_command_and_exit_code(ldip):
    done = ldip("--help")
    assert done.code == 0
    for command in COMMANDS:
        assert re.search(rf"^ +{command} +\w", done.out, re.M)
    assert "exit codes: 0 success, 1 internal error, 2 invalid input, 130 interrupted" in done.out


def test_version_and_missing_or_unknown_commands(ldip):
    assert ldip("--version").out == f"ldip {ldip_jax.__version__}\n"
    for words in (("enlarge",), ("upscale",), ("train",), ("info", "--colour", "red")):
        done = ldip(*words)
        assert done.code == 2
        assert "error: " in done.err


def test_without_a_command_the_help_is_printed(ldip):
    done = ldip()
    assert done.code == 0
    assert done.out == ldip("--help").out


def test_flags_may_have_underscores(ldip, tmp_path):
    for flag in ("--key-stride", "--key_stride"):
        done = ldip("upscale", "in.mp4", "out.mp4", flag, "x")
        assert done.code == 2
        assert "argument --key-stride: 'x' is not a whole number" in done.err
    words = ["eval", "--data_dir=my_clips", "--lr_dir", "a_b", "--config.data.data_dir=c_d", "--noconfig.a_b"]
    assert with_dashes(words) == ["eval", "--data-dir=my_clips", "--lr-dir", "a_b", *words[4:]]


def test_help_does_not_wait_for_jax():
    program = (
        "import sys; from ldip_jax.cli.main import build_parser; build_parser();"
        "print([name for name in ('jax', 'numpy', 'av') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_main_is_what_the_console_script_calls():
    assert main.__module__ == "ldip_jax.cli.main"


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("lost", [False, True])
def test_signals_give_the_exit_codes_of_shells(ldip, monkeypatch, name, code, lost):
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL), sys.unraisablehook

    def interrupted(args):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            # As interrupted imports do.
            if lost:
                raise ImportError("something is partially initialized") from None
            raise

    monkeypatch.setattr(info, "run", interrupted)
    try:
        done = ldip("info")
        assert signal.getsignal(number) == signal.SIG_DFL
        assert sys.unraisablehook is before[1]
    finally:
        signal.signal(number, before[0])
    assert done.code == code
    assert done.message == "ldip: interrupted"


def test_completion_is_printed_for_a_shell(ldip):
    if importlib.util.find_spec("shtab") is None:
        assert "pip install 'ldip-jax[completion]'" in ldip("--print-completion", "bash").err
    else:
        done = ldip("--print-completion", "bash")
        assert done.code == 0
        assert "--output-dir" in done.out
