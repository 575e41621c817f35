"""`ldip records`: makes training records, the work of the frozen networks, done once."""

import argparse
from pathlib import Path

from ldip_jax.cli.train import add_config_flag
from ldip_jax.command import need_extra

_DESCRIPTION = """\
Compute the output of the frozen networks on samples of a prepared data set, once for many steps of
training. --config.NAME=VALUE sets any field of the config, as in `ldip train`. Existing records are kept, so
that the same command resumes what was interrupted.
"""


_OUTPUT = "folder for the records; give it to `ldip train` as config.data.records"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the command to `ldip`."""
    parser = subparsers.add_parser(
        "records",
        help="make training records: the output of the frozen networks, computed once",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_flag(parser)
    add = parser.add_argument
    add("--output", type=Path, metavar="DIR", required=True, help=_OUTPUT)
    add("--count", type=int, metavar="N", required=True, help="the number of records in all")
    add("--split", metavar="NAME", default="train", help="split of the data set (default: %(default)s)")
    add(
        "--part",
        metavar="I/N",
        type=_part,
        default=(0, 1),
        help="only the I-th of N equal parts, counted from 0, so that N processes can share the work",
    )
    parser.set_defaults(run=run, overrides=[], needs_less="a smaller config.data.clip needs less")


def run(args: argparse.Namespace) -> int:
    """Makes the records; returns the exit code 0."""
    need_extra("train")
    from ldip_jax.training.config_flags import read_config
    from ldip_jax.training.record_making import make_records

    make_records(read_config(args.config, args.overrides), args.output, args.count, args.split, args.part)
    return 0


def _part(text: str) -> tuple[int, int]:
    """I/N; argparse reports a ValueError."""
    index, count = map(int, text.split("/"))
    if not 0 <= index < count:
        raise ValueError(text)
    return index, count
