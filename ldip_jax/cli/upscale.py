"""`ldip upscale`: a clip in, the upscaled clip out."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ldip_jax.errors import InputError

if TYPE_CHECKING:
    from ldip_jax.inference.references import Still
    from ldip_jax.inference.upscaler import Upscaler
    from ldip_jax.media.clip import Clip

_DESCRIPTION = """\
Upscale IN, a video file or a folder of images in name order, to OUT: a video (.mp4, .m4v, .mov, .mkv) by its
extension, else a folder of PNG named like the inputs. Frame rate, sound and colour tags of a video are kept.
"""


def _size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT as (height, width)."""
    width, cross, height = text.lower().partition("x")
    if not cross or not (width.isdecimal() and height.isdecimal()) or 0 in (int(width), int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as 1920x1080")
    return int(height), int(width)


def _count(least: int):
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return parse


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the command to `ldip`."""
    parser = subparsers.add_parser(
        "upscale",
        help="upscale a video or a folder of images",
        description=_DESCRIPTION,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("input", metavar="IN", type=Path, help="a video file, a folder of images, or one image")
    add("output", metavar="OUT", type=Path, help="a video file, or a folder of PNG")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--scale", type=float, help="1 to 8, fractions too (default: 4)", default=argparse.SUPPRESS
    )
    size.add_argument(
        "--size",
        type=_size,
        metavar="WIDTHxHEIGHT",
        help="the output's size instead",
        default=argparse.SUPPRESS,
    )
    add(
        "--ref",
        type=Path,
        metavar="IMAGE",
        action="extend",
        nargs="+",
        default=[],
        help="sharp stills of the same scene, of any size; may be given again",
    )
    add("--backbone", metavar="NAME|FILE", default="basicvsr-reds4", help="see `ldip weights list`")
    add(
        "--lrrf",
        metavar="default|none|NAME|FILE",
        default="default",
        help="LRRF weights; none: backbone alone",
    )
    add("--key-stride", type=_count(1), metavar="N", default=8, help="frames from one key-frame to the next")
    add(
        "--self-refs",
        type=_count(0),
        metavar="N",
        default=5,
        help="references per key-frame, with the clip's own",
    )
    add("--exclude", type=_count(0), metavar="N", default=5, help="frames this near are no references")
    add(
        "--ref-threshold",
        type=float,
        metavar="SHARE",
        default=0.05,
        help="a still is used where this share of the pixels is surely matched",
    )
    add(
        "--matcher", metavar="gmflow|flow|DIR", default="gmflow", help="or a folder of matches made elsewhere"
    )
    add("--bit-depth", type=int, choices=(8, 16), default=8, help="of PNG; 16 makes 10-bit video")
    add("--codec", choices=("h264", "h265"), default="h264", help="of video")
    quality = parser.add_mutually_exclusive_group()
    quality.add_argument(
        "--crf", type=_count(0), metavar="N", default=18, help="quality of video, 0 (best) to 51"
    )
    quality.add_argument("--lossless", action="store_true", help="video that decodes to exactly these frames")
    add("--overwrite", action="store_true", help="replace an existing output")
    add("--report", type=Path, metavar="FILE.html", help="also write a page to look at the result")
    add("--verbose", action="store_true", help="tell which references each key-frame gets")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Upscales; returns the exit code 0."""
    from ldip_jax.media.outputs import check_output
    from ldip_jax.media.reader import open_clip

    given = [args.input, *args.ref]
    with open_clip(args.input) as clip:
        names = clip.names if clip.count is not None else None
        check_output(args.output, overwrite=args.overwrite, inputs=given, names=names)
        if args.report is not None:
            _check_report(args)
        for note in clip.notes:
            _say(f"{clip.path}: {note}")
        stills = _read_stills(args.ref)
        _upscale(args, clip, stills)
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _check_report(args: argparse.Namespace) -> None:
    if args.report.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{args.report}: a report is an .html file; name it so")
    if args.report.is_dir():
        raise InputError(f"{args.report}: is a folder; choose another name for the report")
    if args.report.exists() and not args.overwrite:
        raise InputError(f"{args.report}: exists already; add --overwrite or choose another name")
    if not args.report.parent.is_dir():
        raise InputError(f"{args.report.parent}: no such folder for the report; make it first")


def _read_stills(paths: list[Path]) -> list["Still"]:
    from ldip_jax.inference.references import Still
    from ldip_jax.media.images import read_image

    stills: dict[str, Still] = {}
    for path in paths:
        image, notes = read_image(path)
        for note in notes:
            _say(f"{path}: {note}")
        if path.stem in stills:
            raise InputError(f"{path}: a reference called {path.stem} is given already; rename one of them")
        stills[path.stem] = Still(path.stem, image)
    return list(stills.values())


def _upscale(args: argparse.Namespace, clip: "Clip", stills: list["Still"]) -> None:
    from ldip_jax.cli.progress import Progress
    from ldip_jax.cli.upscale_report import Samples
    from ldip_jax.inference.api import make_upscaler
    from ldip_jax.inference.references import Rules
    from ldip_jax.media.writer import open_writer

    upscaler = make_upscaler(
        (clip.height, clip.width),
        scale=getattr(args, "scale", None),
        size=getattr(args, "size", None),
        backbone=args.backbone,
        lrrf=args.lrrf,
        key_stride=args.key_stride,
        rules=Rules(args.self_refs, args.exclude, args.ref_threshold),
        matcher=args.matcher,
        progress=_say,
    )
    for note in upscaler.notes:
        _say(note)
    if stills and not upscaler.model.refined:
        _say(f"{len(stills)} reference(s) given, but the backbone alone has no use for them")
    (height, width), began = upscaler.out, time.perf_counter()
    samples = Samples(clip.count) if args.report is not None else None
    writer = open_writer(
        args.output,
        height=height,
        width=width,
        like=clip,
        bit_depth=args.bit_depth,
        crf=args.crf,
        lossless=args.lossless,
        codec=args.codec,
        overwrite=args.overwrite,
    )
    work = None if clip.count is None else upscaler.work(clip.count, len(stills))
    done = 0
    with writer, Progress(f"{clip.path.name}", work, upscaler.costs()) as progress:
        source = clip.frames() if samples is None else samples.watch_input(clip.frames())
        for frame in upscaler.frames(source, stills, progress.advance):
            writer.write(frame)
            if samples is not None:
                samples.output(done, frame)
            done += 1
    seconds = time.perf_counter() - began
    if args.verbose:
        _tell_choices(upscaler)
    for note in writer.notes:
        _say(note)
    print(
        f"{args.output}: {done} frame{'s' * (done != 1)}, {clip.width}x{clip.height} to {width}x{height},"
        f" {_methods(upscaler, args)}, {seconds:.1f} s ({seconds / max(done, 1):.2f} s a frame)"
    )
    if samples is not None:
        samples.write(args.report, upscaler, stills, clip, seconds)
        print(f"{args.report}: report")


def _methods(upscaler: "Upscaler", args: argparse.Namespace) -> str:
    name = upscaler.model.backbone.name
    if not upscaler.model.refined:
        return f"{name} alone"
    used = {choice.name for choices in upscaler.choices.values() for choice in choices if choice.used}
    stills = sum(not name.startswith("frame ") for name in used)
    return f"{name} with LRRF, {stills} of {len(args.ref)} references used"


def _tell_choices(upscaler: "Upscaler") -> None:
    for key, choices in sorted(upscaler.choices.items()):
        told = [f"{c.name} {100 * c.share:.0f} %{'' if c.used else ' (not used)'}" for c in choices]
        _say(f"key-frame {key}: {', '.join(told) or 'no reference'}")
