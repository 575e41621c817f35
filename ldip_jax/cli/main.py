"""The `ldip` command."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from ldip_jax import __version__
from ldip_jax.command import file_or_folder, run_guarded

COMMANDS = ("upscale", "studio", "compare", "info", "weights", "demo", "eval", "train", "prepare", "records")

_EPILOG = """\
exit codes: 0 success, 1 internal error, 2 invalid input, 130 interrupted by Ctrl-C, 143 by SIGTERM
"""


class _Parser(argparse.ArgumentParser):
    """A parser for paths that may stand anywhere among options."""

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        found, rest = super().parse_known_args(args, namespace)
        if hasattr(found, "paths"):
            words = [word for word in rest if word == "-" or not word.startswith("-")]
            found.paths += map(file_or_folder, words)
            rest = [word for word in rest if word not in words]
        return found, rest


class _Completion(argparse.Action):
    """Prints a script by which a shell completes the command, then ends the program."""

    def __call__(self, parser, namespace, values, option_string=None):
        try:
            shtab = importlib.import_module("shtab")
        except ImportError:
            parser.error("shell completion needs the extra completion: pip install 'ldip-jax[completion]'")
        _complete_files(parser, shtab.FILE)
        print(shtab.complete(parser, shell=values))
        parser.exit()


def _complete_files(parser: argparse.ArgumentParser, how: Any) -> None:
    """Mark all options that take files, in this parser and those of its commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command, how)
        elif action.nargs != 0 and action.choices is None:
            action.complete = how  # type: ignore[attr-defined]


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands."""
    parser = argparse.ArgumentParser(
        prog="ldip",
        description="Long-distance, reference-guided, arbitrary-scale video super-resolution.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ldip {__version__}")
    parser.add_argument(
        "--print-completion",
        action=_Completion,
        choices=("bash", "zsh", "tcsh"),
        metavar="SHELL",
        help="print a script for bash, zsh or tcsh that completes commands, options and files",
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", parser_class=_Parser)
    for command in COMMANDS:
        importlib.import_module(f"ldip_jax.cli.{command}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    return run_guarded("ldip", build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
