"""Make a data set for training out of clips on disk.

python -m ldip_jax.data.prepare reds --source REDS --output DATA
"""

import argparse
import errno
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import DownloadConfig

from ldip_jax.data import builders, folders
from ldip_jax.data.folders import Splits
from ldip_jax.data.heldout import read_heldout, why_held_out
from ldip_jax.errors import InputError
from ldip_jax.progress import Progress

DATASETS: dict[str, type[builders.ClipsBuilder]] = {
    "reds": builders.Reds,
    "vimeo90k": builders.Vimeo90k,
    "vid4": builders.Vid4,
    "udm10": builders.Udm10,
    "video_folder": builders.VideoFolder,
}
_FIND: dict[str, Callable[[Path, Callable[[], None]], Splits]] = {
    "reds": folders.find_reds,
    "vimeo90k": folders.find_vimeo90k,
    "vid4": folders.find_vid4,
    "udm10": folders.find_udm10,
}
HELD_OUT = "heldout"


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m ldip_jax.data.prepare",
        description="Check the clips of a data set and pack them for training, or make records of packed "
        "clips. What is interrupted goes on where it was.",
        epilog="exit codes: 0 done, 1 a fault of this program, 2 something about the input, 130 interrupted",
    )
    commands = parser.add_subparsers(metavar="WHAT", required=True)
    for name, builder in DATASETS.items():
        command = commands.add_parser(name, help=(builder.__doc__ or "").rstrip("."))
        command.add_argument("--source", metavar="DIR", type=Path, required=True, help="the clips")
        command.add_argument(
            "--output", metavar="DIR", type=Path, required=True, help="where to; config.data.data_dir later"
        )
        command.add_argument(
            "--overwrite", action="store_true", help="replace what was prepared there before"
        )
        command.set_defaults(run=_run_dataset, dataset=name, shots=None, heldout=None, reduce=1.0)
        if name == "video_folder":
            _add_own(command)
    records = commands.add_parser(
        "records",
        help="the frozen networks' work on samples of a prepared data set, done once",
        epilog="All other flags are those of train.py: --config.data.data_dir=DIR and so on.",
    )
    records.add_argument("--config", metavar="FILE", required=True, help="the plan, configs/NAME.py")
    records.add_argument(
        "--output", metavar="DIR", type=Path, required=True, help="config.data.records later"
    )
    records.add_argument("--count", metavar="N", type=int, required=True, help="so many records in all")
    records.add_argument("--split", default="train", help="of the data set (default: train)")
    records.set_defaults(run=_run_records)
    return parser


def _add_own(command: argparse.ArgumentParser) -> None:
    """The flags of video_folder."""
    command.add_argument(
        "--reduce",
        metavar="FACTOR",
        type=float,
        default=1.0,
        help="0.25 to 1: make frames smaller by area means; 0.5 to 0.75 removes the marks of compression",
    )
    command.add_argument(
        "--shots",
        metavar="FILE",
        type=Path,
        help='JSON, {"NAME": [[first, last], ...]}: frames, from 0, that belong together; NAME is a clip',
    )
    command.add_argument(
        "--heldout",
        metavar="FILE",
        type=Path,
        help='JSON, {"clips": {"NAME": "WHY"}}: these clips go to the split "heldout" (configs/heldout.json)',
    )


def _run_dataset(args: argparse.Namespace, rest: list[str]) -> None:
    if rest:
        raise InputError(f"{rest[0]}: no such flag of {args.dataset}; --help lists them")
    prepare(args.dataset, args.source, args.output, args.shots, args.heldout, args.reduce, args.overwrite)


def _run_records(args: argparse.Namespace, rest: list[str]) -> None:
    # The networks are not needed for anything else here, and take seconds to import.
    from ldip_jax.training.make_records import make_records, read_config

    make_records(read_config(args.config, rest), args.output, args.count, args.split)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args, rest = build_parser().parse_known_args(argv)
    try:
        args.run(args, rest)
    except InputError as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise
        print(f"prepare: {error.filename or args.output}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("prepare: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def prepare(
    dataset: str,
    source: Path,
    output: Path,
    shots: Path | None = None,
    heldout: Path | None = None,
    reduce: float = 1.0,
    overwrite: bool = False,
) -> Path:
    """Pack a data set; what an interrupted run finished is taken over.

    Returns:
        the folder with the data set, which is there as a whole or not at all.

    Raises:
        InputError: clips are missing, damaged or of the wrong size, or another data set is in the way.
    """
    if not 0.25 <= reduce <= 1.0:
        raise InputError(f"--reduce {reduce}: choose from 0.25 to 1")
    with Progress(f"looking through {source}", None, {"clip": 1.0}) as progress:
        seen = lambda: progress.advance("clip")  # noqa: E731
        if dataset == "video_folder":
            splits = _held_apart(folders.find_clips(source, seen, shots), heldout)
            splits = {name: [folders.reduced(c, reduce) for c in clips] for name, clips in splits.items()}
        else:
            splits = _FIND[dataset](source, seen)
    state = builders.digest(splits)
    staging = output / f".{dataset}-{state[:16]}"
    with Progress("packing", {"frame": _frames(splits)}, {"frame": 1.0}) as progress:
        builder = DATASETS[dataset](
            splits=splits, staging=staging, advance=lambda: progress.advance("frame"), data_dir=output
        )
        folder = Path(builder.data_dir)
        if folder.exists() and not overwrite and _stands(folder) == state:
            print(f"{folder}: is there already", file=sys.stderr)
            return folder
        if folder.exists() and not overwrite:
            raise InputError(f"{folder}: was made of other files; choose another --output, or --overwrite it")
        # An earlier run's, of files that have changed since, or killed while it linked its shards.
        for leftover in [*output.glob(f".{dataset}-*"), *folder.parent.glob("incomplete.*")]:
            if leftover != staging:
                shutil.rmtree(leftover, ignore_errors=True)
        try:
            staging.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{output}: cannot be written ({error.strerror}); choose another") from error
        if folder.exists():
            shutil.rmtree(folder)
        tfds.disable_progress_bar()
        builder.download_and_prepare(
            download_dir=staging, download_config=DownloadConfig(try_download_gcs=False)
        )
    shutil.rmtree(staging)
    _report(folder, splits)
    return folder


def _held_apart(splits: Splits, heldout: Path | None) -> Splits:
    """Held-out clips in a split of their own."""
    known = Path("configs/heldout.json")
    listing = read_heldout(heldout or known) if heldout or known.is_file() else {}
    apart: Splits = {"train": [], HELD_OUT: []}
    for clip in splits["train"]:
        apart[HELD_OUT if why_held_out(clip.name, listing) else "train"].append(clip)
    return apart


def _frames(splits: Splits) -> int:
    return sum(clip.count for clips in splits.values() for clip in clips)


def _stands(folder: Path) -> str | None:
    """The digest of the files that a data set was made of."""
    with suppress(Exception):
        return tfds.builder_from_directory(folder).info.metadata["digest"]  # type: ignore[index]
    return None


def _report(folder: Path, splits: Splits) -> None:
    size = sum(file.stat().st_size for file in folder.iterdir())
    parts = [f"{name} {len(clips)} clips" for name, clips in splits.items() if clips]
    print(f"{folder}: {', '.join(parts)}; {_frames(splits)} frames, {size / 2**30:.2f} GiB", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
