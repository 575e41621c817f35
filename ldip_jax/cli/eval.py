"""`ldip eval`: the flags of an evaluation, which `ldip_jax.evaluation.command` runs."""

import argparse
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ldip_jax.cli.upscale_flags import add_soften_flag
from ldip_jax.command import add_memory_flag, add_method_flags, add_reference_flags, at_least, parse_shard
from ldip_jax.errors import InputError

if TYPE_CHECKING:
    from ldip_jax.data.alterations import Alteration
    from ldip_jax.data.codecs import Codec
    from ldip_jax.evaluation.protocols import Scale

_DESCRIPTION = """\
Score LDIP on a benchmark, or on any folder of clips. LR frames are made from the ground truth as the protocol
says. Results are stored clip by clip in --output: the same command resumes an interrupted evaluation.
"""

_EPILOG = """\
written to --output: results.md, results.csv, results.json, report.html
exit codes: 0 success, 1 internal error, 2 invalid input (also if a single clip has to be skipped), 130
interrupted
"""

PROPAGATIONS = ("hrip", "carry", "both")
NAMES = ("vid4", "reds4", "reds-val", "vimeo90k-t", "udm10", "video_folder")


def _scale(text: str) -> "Scale":
    """Read a scale: a number such as 4, or ROWSxCOLUMNS."""
    try:
        values = tuple(float(part) for part in text.lower().split("x"))
    except ValueError:
        values = (0.0,)
    if len(values) not in (1, 2) or not all(1.0 <= value <= 8.0 for value in values):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a scale from 1 to 8, such as 4, 2.5, or 1.5x4 for rows and columns"
        )
    return (values[0], values[-1])


@contextmanager
def _as_argument_error() -> Iterator[None]:
    """Report an `InputError` as one of the command line."""
    try:
        yield
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _codec(text: str) -> "Codec":
    from ldip_jax.data.codecs import parse_codec

    with _as_argument_error():
        return parse_codec(text)


def _alteration(text: str) -> "Alteration":
    from ldip_jax.data.alterations import parse_alteration

    with _as_argument_error():
        return parse_alteration(text)


class _List(argparse.Action):
    """Prints all protocols, then ends the program."""

    def __call__(self, parser, *_):
        from ldip_jax.evaluation.protocols import PROTOCOLS

        for protocol in PROTOCOLS.values():
            columns = ", ".join(shlex.quote(column.name) for column in protocol.variants)
            print(f"{protocol.name:13} {protocol.summary}; columns: {columns}")
        parser.exit()


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the command to `ldip`."""
    parser = subparsers.add_parser(
        "eval",
        help="score LDIP on a benchmark or on your own clips",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--dataset", required=True, choices=NAMES, help="the data set; see docs/datasets.md")
    add("--data-dir", required=True, type=Path, metavar="DIR", help="the folder of the ground truth")
    add(
        "--protocol",
        metavar="NAME",
        help="what is upscaled and scored; see --list-protocols (default: bd-x4 for udm10, else bi-x4)",
    )
    add("--list-protocols", action=_List, nargs=0, help="list the protocols and their columns")
    add("--clips", nargs="+", metavar="NAME", help="score only these clips (default: all)")
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for the results (default: results/DATASET-PROTOCOL)",
    )
    add(
        "--scale",
        type=_scale,
        nargs="+",
        metavar="S",
        help="instead of the protocol's scales: 4, 2.5, or ROWSxCOLUMNS such as 1.5x4",
    )
    model = parser.add_argument_group("model")
    add = model.add_argument
    add("--config", metavar="NAME|FILE[:ARG]", help="a training config, for its backbone and matcher")
    add(
        "--backbone",
        metavar="NAME|FILE",
        help="the network that upscales (default: that of --config, or basicvsr-reds4)",
    )
    add(
        "--checkpoint",
        default="default",
        metavar="RUN|FILE|NAME|default|none",
        help="LRRF weights: a training run's folder, an export, or the name of shipped ones. default: those"
        " shipped for the backbone; none: only the backbone (default: %(default)s)",
    )
    add("--cross", metavar="RUN|FILE", help='weights without ICA, for the column "w/o ICA"')
    add(
        "--matcher",
        metavar="gmflow|flow|DIR",
        help="how references are matched (default: as --config says, or gmflow)",
    )
    add_soften_flag(model)
    add_reference_flags(model)
    add(
        "--propagation",
        choices=PROPAGATIONS,
        help="how detail gets from key-frames to the other frames: by HRIP, as in the paper; carried along"
        " composed optical flow; or both (default: as the weights say)",
    )
    add_method_flags(
        parser.add_argument_group("methods to compare with"),
        "mrefsr: adds columns of MRefSR and of linear transfer to protocols with references in HR",
    )
    scoring = parser.add_argument_group("scoring")
    add = scoring.add_argument
    add(
        "--columns",
        nargs="+",
        metavar="NAME",
        help="run only these columns of the protocol, such as backbone full; gains are over backbone",
    )
    add(
        "--measure",
        metavar="NAME",
        help="basicsr-y, basicsr-rgb, rgb-crop4, y-crop4 or float-y (default: that of the protocol)",
    )
    add("--temporal", action="store_true", help="also compute tOF: how well motion is kept")
    add("--no-lpips", action="store_true", help="do not compute LPIPS")
    work = parser.add_argument_group("work")
    add = work.add_argument
    add("--lr-dir", type=Path, metavar="DIR", help="a folder of LR clips to use, with the same names")
    add(
        "--input-codec",
        type=_codec,
        metavar="h264:CRF|jpeg:QUALITY",
        help="compress each LR clip, as a whole, before frames are selected",
    )
    add(
        "--hr-refs",
        type=at_least(1),
        metavar="N",
        help="how many references in HR the protocols table5 and near use (default: 2); they are spread"
        " evenly over the frames before and after those that are upscaled",
    )
    add(
        "--ref-alter",
        type=_alteration,
        action="append",
        metavar="HOW",
        help="alter the references in HR: exposure:FACTOR, gamma:POWER, white:R,G,B, blur:SIGMA, noise:SIGMA,"
        " jpeg:QUALITY, mirror, plain:black, plain:white or plain:grey; several are applied in order",
    )
    add(
        "--multiple",
        type=at_least(1),
        default=1,
        metavar="N",
        help="crop HR frames to multiples of N pixels, so that clips of many sizes share compiled programs",
    )
    add(
        "--shard",
        type=parse_shard,
        default=(0, 1),
        metavar="I/N|auto",
        help="score every N-th clip from the I-th, counted from 0. auto: I and N from srun, or COORDINATOR,"
        " NUM_PROCESSES and PROCESS_ID. All processes share one --output",
    )
    add_memory_flag(work)
    add("--report-clip", metavar="NAME", help="the clip that report.html shows (default: the first)")
    parser.set_defaults(run=run, needs_less="a smaller --memory makes smaller tiles")


def run(args: argparse.Namespace) -> int:
    """Evaluates; returns 0, or 2 if clips had to be skipped."""
    from ldip_jax.evaluation import command

    return command.run(args)
