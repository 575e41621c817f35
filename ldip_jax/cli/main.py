"""The `ldip` command."""

import argparse
import errno
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from ldip_jax import __version__
from ldip_jax.errors import InputError
from ldip_jax.runtime import configure

COMMANDS = ("upscale", "compare", "info", "weights", "demo")

_EPILOG = """\
exit codes: 0 done, 1 a fault of this program, 2 something about the input, 130 interrupted
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands."""
    parser = argparse.ArgumentParser(
        prog="ldip",
        description="Long-distance, reference-guided, arbitrary-scale video super-resolution.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ldip {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        importlib.import_module(f"ldip_jax.cli.{command}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    return run_guarded("ldip", build_parser(), argv)


def run_guarded(program: str, parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse the words, call what the parser sets as `run`, and turn whatever ends it into an exit code.

    Args:
        program: named in front of the line that says what is wrong.
    """
    # A file name need not be valid text; it must not end the program when it is printed.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    args = parser.parse_args(argv)
    configure()
    _clean_up_when_ended()
    return guarded(program, lambda: args.run(args), "smaller frames or a smaller --scale need less")


def guarded(program: str, work: Callable[[], int], needs_less: str) -> int:
    """Do the work, and turn whatever ends it into an exit code.

    Args:
        program: named in front of the line that says what is wrong.
        work: returns the exit code.
        needs_less: the way out where memory runs out.
    """
    try:
        code = work()
        sys.stdout.flush()
        return code
    except InputError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Who reads our output has seen enough.
        _print_no_more()
        return 1
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _print_no_more()
            print(
                f"{program}: {error.filename or 'cannot write'}: no space left on the disk", file=sys.stderr
            )
            return 2
        # XLA's error has a type of its own, and importing jax to name it takes a second.
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            print(f"{program}: out of memory; {needs_less}", file=sys.stderr)
            return 2
        raise


def _clean_up_when_ended() -> None:
    """Let a closed terminal and a polite kill end the program as Ctrl-C does: nothing half-written stays."""
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # An ignored signal, as under nohup, stays ignored.
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, signal.default_int_handler)


def _print_no_more() -> None:
    """Standard output takes nothing any more: what is still held back must not fail at exit once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
