"""The flags of `python eval.py`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ldip_jax.cli.arguments import count
from ldip_jax.cli.reference_flags import add_reference_flags

if TYPE_CHECKING:
    from ldip_jax.evaluation.protocols import Scale

_DESCRIPTION = """\
Score LDIP on a benchmark, or on any folder of clips. LR frames are made from the ground truth as the protocol
says. Results are kept clip by clip in --output: run the same command again and it goes on where it stopped.
"""

_EPILOG = """\
written to --output: results.md, results.csv, results.json, report.html
exit codes: 0 done, 1 a fault of this program, 2 something about the input (one clip that has to be skipped is
enough), 130 interrupted
"""

NAMES = ("vid4", "reds4", "reds-val", "vimeo90k-t", "udm10", "video_folder")


def _scale(text: str) -> "Scale":
    """4, or ROWSxCOLUMNS."""
    try:
        values = tuple(float(part) for part in text.lower().split("x"))
    except ValueError:
        values = (0.0,)
    if len(values) not in (1, 2) or not all(1.0 <= value <= 8.0 for value in values):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no scale from 1 to 8, such as 4, 2.5, or 1.5x4 for rows and columns"
        )
    return (values[0], values[-1])


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 0 to N - 1, such as 0/8, nor auto")
    return int(index), int(count)


class _List(argparse.Action):
    """Prints all protocols and ends the program."""

    def __call__(self, parser, *_):
        from ldip_jax.evaluation.protocols import PROTOCOLS

        for protocol in PROTOCOLS.values():
            columns = ", ".join(column.name for column in protocol.columns)
            print(f"{protocol.name:13} {protocol.summary}; columns: {columns}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser; builds without jax."""
    parser = argparse.ArgumentParser(
        prog="eval.py",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--dataset", required=True, choices=NAMES, help="whose clips these are; docs/datasets.md tells more")
    add("--data_dir", required=True, type=Path, metavar="DIR", help="where the ground truth lies")
    add(
        "--protocol",
        metavar="NAME",
        help="what is run (default: bd-x4 for udm10, else bi-x4)",
    )
    add("--list-protocols", action=_List, nargs=0, help="tell what each protocol does, and its columns")
    add("--output", type=Path, metavar="DIR", help="default: results/DATASET-PROTOCOL")
    add(
        "--scale",
        type=_scale,
        nargs="+",
        metavar="S",
        help="4, 2.5, or ROWSxCOLUMNS as 1.5x4, in place of the protocol's",
    )
    model = parser.add_argument_group("model")
    add = model.add_argument
    add("--config", metavar="FILE[:ARG]", help="a plan of configs/, for its backbone and matcher")
    add(
        "--backbone",
        metavar="NAME|FILE",
        help="in place of the plan's (default without a plan: basicvsr-reds4)",
    )
    add(
        "--checkpoint",
        default="default",
        metavar="RUN|FILE|NAME|default|none",
        help="LRRF weights: a training run's folder, an export, the name of shipped ones, those of the"
        " backbone, or none (default: %(default)s)",
    )
    add("--cross", metavar="RUN|FILE", help='weights without ICA, for the column "w/o ICA"')
    add(
        "--matcher", metavar="gmflow|flow|DIR", help="in place of the plan's (default without a plan: gmflow)"
    )
    add_reference_flags(model)
    scoring = parser.add_argument_group("scoring")
    add = scoring.add_argument
    add("--columns", nargs="+", metavar="NAME", help="some of the protocol's columns, such as backbone full")
    add(
        "--measure",
        metavar="NAME",
        help="basicsr-y, basicsr-rgb, rgb-crop4, y-crop4 or float-y, in place of the protocol's",
    )
    add("--temporal", action="store_true", help="tOF too: how well motion is kept")
    add("--no-lpips", action="store_true", help="leave LPIPS out")
    work = parser.add_argument_group("work")
    add = work.add_argument
    add("--lr_dir", type=Path, metavar="DIR", help="LR clips of the same names, in place of made ones")
    add(
        "--multiple",
        type=count(1),
        default=1,
        metavar="N",
        help="cut HR frames to multiples of N pixels: clips of many sizes then share programs",
    )
    add(
        "--shard",
        type=lambda text: text if text == "auto" else _shard(text),
        default=(0, 1),
        metavar="I/N|auto",
        help="this process does every N-th clip from the I-th; auto: as srun, or COORDINATOR,"
        " NUM_PROCESSES and PROCESS_ID, tell. All share one --output",
    )
    add("--report-clip", metavar="NAME", help="the clip that report.html shows (default: the first)")
    return parser
