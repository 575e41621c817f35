"""`ldip prepare`: checks the clips of a data set and packs them for training."""

import argparse
import errno
from pathlib import Path

from ldip_jax.command import need_extra
from ldip_jax.errors import InputError

_DESCRIPTION = """\
Check the clips of a data set and pack them for training. The same command resumes what was interrupted.

  ldip prepare reds --source REDS --output DATA
"""

_OUTPUT = "folder for the packed data set; give it to `ldip train` as config.data.data_dir"
_DATASETS = {
    "reds": "REDS: 1280x720, 100 frames a clip; splits train, reds4 (the four test clips) and val (30 clips)",
    "vimeo90k": "Vimeo-90K septuplets: 448x256, 7 frames a clip; splits train and test",
    "vid4": "Vid4: four clips; split test",
    "udm10": "UDM10: ten clips of 32 frames; split test",
    "video_folder": "your own clips; splits train and heldout",
}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the command to `ldip`."""
    parser = subparsers.add_parser(
        "prepare",
        help="pack the clips of a data set for training",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    datasets = parser.add_subparsers(metavar="DATASET", required=True)
    for name, summary in _DATASETS.items():
        command = datasets.add_parser(name, help=summary, description=f"Pack {summary}.")
        add = command.add_argument
        add("--source", metavar="DIR", type=Path, required=True, help="the folder of the clips")
        add("--output", metavar="DIR", type=Path, required=True, help=_OUTPUT)
        add("--overwrite", action="store_true", help="replace what was prepared there before")
        command.set_defaults(run=run, dataset=name, shots=None, heldout=None, reduce=1.0)
        if name == "video_folder":
            _add_video_folder_flags(command)


def _add_video_folder_flags(command: argparse.ArgumentParser) -> None:
    """Adds the flags of video_folder."""
    add = command.add_argument
    add(
        "--reduce",
        metavar="FACTOR",
        type=float,
        default=1.0,
        help="0.25 to 1: reduce frames by area means; 0.5 to 0.75 also removes compression artefacts",
    )
    add(
        "--shots",
        metavar="FILE",
        type=Path,
        help='JSON, {"NAME": [[FIRST, LAST], ...]}: the first and last frame of each shot, counted from 0;'
        " NAME is a clip",
    )
    add(
        "--heldout",
        metavar="FILE",
        type=Path,
        help="JSON, a list of clips that go to the split heldout; none: hold nothing out (default:"
        " configs/heldout.json, or the same list in the package)",
    )


def run(args: argparse.Namespace) -> int:
    """Packs the data set; returns the exit code 0."""
    need_extra("train")
    from ldip_jax.data.packing import prepare

    try:
        prepare(args.dataset, args.source, args.output, args.shots, args.heldout, args.reduce, args.overwrite)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS):
            raise
        raise InputError(f"{error.filename or args.output}: {error.strerror}; check --output") from error
    return 0
