"""The `ldip` command."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

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
    # A file name need not be valid text; it must not end the program when it is printed.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    args = build_parser().parse_args(argv)
    configure()
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code
    except InputError as error:
        print(f"ldip: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ldip: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Who reads our output has seen enough. Nothing more can be printed, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        print("ldip: not enough memory; take a smaller scale or a smaller clip", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
