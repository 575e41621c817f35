"""`ldip train`: trains LRRF or the arbitrary-scale head on a frozen backbone."""

import argparse
from pathlib import Path

from ldip_jax.command import need_extra

_DESCRIPTION = """\
Train LRRF or the arbitrary-scale head on a frozen backbone. The same command resumes a run.
--config.NAME=VALUE sets any field of the config, such as --config.batch_size=4; docs/training.md lists them.

  ldip train --config ldip_basicvsr_x4:debug --workdir runs/debug    a minute or two, offline
"""

_EPILOG = """\
written to --workdir: checkpoints/, metrics.jsonl, event files of TensorBoard, export.safetensors
exit codes: 0 success, 1 internal error, 2 invalid input; 130, 138 and 143: stopped by Ctrl-C, SIGUSR1 and
SIGTERM
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the command to `ldip`."""
    parser = subparsers.add_parser(
        "train",
        help="train LRRF or the arbitrary-scale head",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_flag(parser)
    parser.add_argument(
        "--workdir",
        type=Path,
        metavar="DIR",
        required=True,
        help="the folder of the run; an existing run is resumed",
    )
    parser.add_argument(
        "--export-only",
        action="store_true",
        help="only write export.safetensors from the newest checkpoint",
    )
    parser.set_defaults(
        run=run,
        overrides=[],
        own_signals=True,
        needs_less="a smaller config.batch_size, data.crop or band_pixels, or remat_frames=True, needs less",
    )


def add_config_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --config."""
    parser.add_argument(
        "--config",
        metavar="NAME|FILE[:ARGUMENTS]",
        required=True,
        help="a config of the package, such as ldip_basicvsr_x4, or a .py file; with arguments after a colon,"
        " such as :debug",
    )


def run(args: argparse.Namespace) -> int:
    """Trains; returns the exit code."""
    need_extra("train")
    from absl import logging

    from ldip_jax.runtime import make_deterministic
    from ldip_jax.training.config_flags import read_config
    from ldip_jax.training.loop import train
    from ldip_jax.training.sharding import join_processes

    logging.set_verbosity(logging.WARNING)
    config = read_config(args.config, args.overrides)
    if config.deterministic:
        make_deterministic()
    join_processes()
    return train(config, args.workdir, export_only=args.export_only)
