"""`ldip compare`: how close two clips are, frame by frame and on average."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ldip_jax.atomic import atomic_open
from ldip_jax.command import file_or_folder
from ldip_jax.errors import InputError

if TYPE_CHECKING:
    from ldip_jax.evaluation.scores import ClipScore

_DESCRIPTION = """\
Score clip A against clip B, each a video file or a folder of images, in the order of their numbers. Both must
have the same frame size and number of frames. PSNR and SSIM follow the published x4 tables: frames are
rounded to 8 bits, no border is cropped, Y is the luma of BT.601, and the clip's score is the mean over its
frames. Clips that are more similar have a higher PSNR (dB), a higher SSIM (at most 1) and a lower LPIPS
(v0.1, AlexNet).
"""

_EPILOG = """\
The file written by --json holds
  {"average": {"psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "lpips_alex"},
   "frames": [{"index", "name", and the same five scores}, ...]}
Scores that were not computed are null: SSIM of frames with a side under 11 pixels, LPIPS of frames with a
side under 31 pixels, and LPIPS with --no-lpips or if its weights (64 MB, fetched once) are not available.
JSON has no infinity: a PSNR of 100.0 means 100 dB or more, including equal frames, also in the averages.
"""

_COLUMNS = (
    ("psnr_y", "PSNR Y"),
    ("ssim_y", "SSIM Y"),
    ("psnr_rgb", "PSNR RGB"),
    ("ssim_rgb", "SSIM RGB"),
    ("lpips_alex", "LPIPS"),
)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the command to `ldip`."""
    parser = subparsers.add_parser(
        "compare",
        help="score two clips against each other: PSNR, SSIM and LPIPS",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", type=file_or_folder, help="a video file or a folder of images")
    parser.add_argument("b", metavar="B", type=file_or_folder, help="the clip to compare it with")
    parser.add_argument(
        "--json",
        metavar="FILE",
        type=file_or_folder,
        help="also write the scores to this file; an existing .json file is replaced",
    )
    parser.add_argument(
        "--no-lpips", action="store_true", help="do not compute LPIPS: faster, and nothing is fetched"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the table and writes the JSON file if there is to be one; returns the exit code 0."""
    _check_json(args.json)
    from ldip_jax.evaluation.metrics import try_lpips
    from ldip_jax.evaluation.scores import ALWAYS, HIGHEST_PSNR, average, check_clips, score_clips
    from ldip_jax.media.reader import open_clip

    with open_clip(args.a) as a, open_clip(args.b) as b:
        for clip in (a, b):
            for note in clip.notes:
                _notify(f"{clip.path}: {note}")
        check_clips(a, b)
        lpips = None if args.no_lpips else try_lpips(_notify)
        width = max([len("average of 00000"), *(len(name) for name in a.names)])
        names, frames = [], []
        for index, score in enumerate(score_clips(a, b, lpips)):
            if index == 0:
                print(f"{'frame':{width}}" + "".join(f"{title:>10}" for _, title in _COLUMNS))
            name = a.names[index] if a.names else f"{index:08d}"
            print(_row(name, score, width), flush=True)
            names.append(name)
            frames.append(score)
    mean = average(frames)
    print(_row(f"average of {len(frames)}", mean, width))
    if any(frame.psnr_rgb == HIGHEST_PSNR for frame in frames):
        print(f"A PSNR of {HIGHEST_PSNR:g} means that value or more, including equal frames.")
    if mean.ssim_y is None:
        print("SSIM is not computed for frames with a side under 11 pixels.")
    if lpips is not None and mean.lpips_alex is None:
        print("LPIPS is not computed for frames with a side under 31 pixels.")
    if args.json is not None:
        rows = [
            {"index": index, "name": name, **score.named(ALWAYS)}
            for index, (name, score) in enumerate(zip(names, frames, strict=True))
        ]
        with atomic_open(args.json) as file:
            file.write(
                (json.dumps({"average": mean.named(ALWAYS), "frames": rows}, indent=1) + "\n").encode()
            )
        print(f"Scores written to {args.json}.")
    return 0


def _notify(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _row(name: str, score: "ClipScore", width: int) -> str:
    values = [getattr(score, field) for field, _ in _COLUMNS]
    return f"{name:{width}}" + "".join(f"{'-' if value is None else f'{value:.4f}':>10}" for value in values)


def _check_json(path: Path | None) -> None:
    """Checks before the work that the file can be written after it."""
    from ldip_jax.media.outputs import check_parent, check_writable

    if path is None:
        return
    if path.is_dir():
        raise InputError(f"--json {path}: is a folder; name a file")
    check_parent(path, f"--json {path}")
    if path.exists() and path.suffix.lower() != ".json":
        raise InputError(f"--json {path}: exists and is not a .json file, so it is kept; choose another name")
    check_writable(path)
