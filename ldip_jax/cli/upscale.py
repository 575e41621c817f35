"""`ldip upscale`: a clip in, the upscaled clip out."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ldip_jax.cli.arguments import count, file_or_folder
from ldip_jax.cli.reference_flags import add_reference_flags
from ldip_jax.errors import InputError

if TYPE_CHECKING:
    from ldip_jax.inference.references import Still
    from ldip_jax.inference.upscaler import Upscaler
    from ldip_jax.media.clip import Clip

_DESCRIPTION = """\
Upscale IN to OUT: a video (.mp4, .m4v, .mov, .mkv) or one .png by its extension, else a folder of PNG named
like the inputs. Frame rate, sound and colour tags of a video are kept. OUT appears whole or not at all.
"""


def _size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT as (height, width)."""
    width, cross, height = text.lower().partition("x")
    if not cross or not (width.isdecimal() and height.isdecimal()) or 0 in (int(width), int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as 1920x1080")
    return int(height), int(width)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the command to `ldip`."""
    parser = subparsers.add_parser(
        "upscale", help="upscale a video or a folder of images", description=_DESCRIPTION
    )
    _add_clip(parser)
    _add_model(parser.add_argument_group("weights and references"))
    _add_output(parser.add_argument_group("output"))
    parser.set_defaults(run=run)


def _add_clip(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "input",
        metavar="IN",
        type=file_or_folder,
        help="a video file, a folder of images in name order, or one image",
    )
    add("output", metavar="OUT", type=file_or_folder, help="a video file, one .png, or a folder for PNG")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--scale",
        type=float,
        metavar="FACTOR",
        help="1 to 8, fractions too: OUT is round(height x FACTOR) high, and as wide likewise; 1 for"
        " backbones that only restore (default: 4)",
    )
    size.add_argument(
        "--size", type=_size, metavar="WIDTHxHEIGHT", help="of OUT; each side 1 to 8 times that of IN"
    )


def _add_model(parser: argparse._ArgumentGroup) -> None:
    add = parser.add_argument
    add(
        "--ref",
        type=file_or_folder,
        metavar="IMAGE",
        action="extend",
        nargs="+",
        default=[],
        help="sharp stills of the same scene, of any size, with a view from half to four times as wide as the"
        " frames', whose detail is used where they match; give them behind IN and OUT",
    )
    add(
        "--backbone",
        metavar="NAME|FILE",
        default="basicvsr-reds4",
        help="the network that upscales: a name from `ldip weights list` or a checkpoint (default:"
        " %(default)s)",
    )
    add(
        "--lrrf",
        metavar="default|none|NAME|FILE",
        default="default",
        help="weights of LRRF, the part that uses references. default: those shipped for the backbone, or"
        " the backbone alone while there are none, or while those gain nothing without --ref; none: the"
        " backbone alone; NAME: of `ldip weights list` (default: %(default)s)",
    )
    add_reference_flags(parser)
    add(
        "--matcher",
        metavar="gmflow|flow|DIR",
        default="gmflow",
        help="what finds the references' content: gmflow; flow, cheaper, for small motion; or a folder of"
        " matches made elsewhere, one KEYFRAME_STILL.npz each, as 00000008_photo.npz, and the clip's own"
        " frames are no references then (default: %(default)s)",
    )
    add(
        "--flow",
        metavar="spynet|raft-large|raft-small|gmflow|FILE",
        help="the optical flow that LRRF follows, and --matcher flow too. spynet: the backbone's own; else"
        " weights of RAFT, GMFlow or SPyNet (default: the one that LRRF was trained with)",
    )


def _add_output(parser: argparse._ArgumentGroup) -> None:
    add = parser.add_argument
    add(
        "--bit-depth",
        type=int,
        choices=(8, 16),
        default=8,
        help="of PNG; 16 makes video of 10 bits (default: %(default)s)",
    )
    add("--codec", choices=("h264", "h265"), default="h264", help="of video (default: %(default)s)")
    quality = parser.add_mutually_exclusive_group()
    quality.add_argument(
        "--crf",
        type=count(0),
        metavar="N",
        help="quality of video, 0 (best) to 51 (smallest) (default: 18)",
    )
    quality.add_argument(
        "--lossless",
        action="store_true",
        help="video of exactly these frames, whatever --codec says: FFV1 in .mkv, else RGB H.264",
    )
    add("--overwrite", action="store_true", help="replace an existing OUT or report")
    add(
        "--report",
        type=file_or_folder,
        metavar="FILE.html",
        help="also write a page with frames before and after, and the references that were used",
    )
    add(
        "--verbose",
        action="store_true",
        help="tell which references each key-frame gets, and how much of it they match",
    )


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
    """Finds out before the work what would keep the page from being written after it."""
    from ldip_jax.media.outputs import check_place

    place = args.report.resolve()
    if args.output.resolve() in (place, *place.parents):
        raise InputError(f"{args.report}: is in the output's own place; choose another one for the report")
    if args.report.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{args.report}: a report is an .html file; name it so")
    if args.report.is_dir():
        raise InputError(f"{args.report}: is a folder; choose another name for the report")
    if args.report.exists() and not args.overwrite:
        raise InputError(f"{args.report}: exists already; add --overwrite or choose another name")
    if not args.report.parent.is_dir():
        raise InputError(f"{args.report}: there is no folder {args.report.parent}; make it first")
    check_place(args.report)


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
    from ldip_jax.cli.upscale_report import Samples
    from ldip_jax.inference.api import make_upscaler, spared_note
    from ldip_jax.inference.model import native_scale, output_size
    from ldip_jax.inference.references import Rules
    from ldip_jax.media.writer import open_writer
    from ldip_jax.progress import Progress

    # Settings of the output are checked before any weights are fetched.
    own = native_scale(args.backbone)
    height, width = output_size((clip.height, clip.width), args.scale, args.size, own)
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
    upscaler = make_upscaler(
        (clip.height, clip.width),
        scale=None,
        size=(height, width),
        backbone=args.backbone,
        lrrf=args.lrrf,
        stills=bool(stills),
        key_stride=args.key_stride,
        rules=Rules(args.self_refs, args.exclude, args.ref_threshold),
        matcher=args.matcher,
        flow=args.flow,
        progress=_say,
    )
    for note in upscaler.notes:
        _say(note)
    if clip.count is not None:
        upscaler.check(clip.count, stills)
    began = time.perf_counter()
    samples = Samples(args.report, clip.count) if args.report is not None else None
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
    if upscaler.spared:
        upscaler.notes.append(spared_note(upscaler, done))
        _say(upscaler.notes[-1])
    print(
        f"{args.output}: {done} frame{'s' * (done != 1)}, {clip.width}x{clip.height} to {width}x{height},"
        f" {_methods(upscaler, args, done)}, {seconds:.1f} s ({seconds / max(done, 1):.2f} s a frame)"
    )
    if samples is not None:
        samples.write(upscaler, stills, clip, seconds)
        print(f"{samples.path}: report")


def _methods(upscaler: "Upscaler", args: argparse.Namespace, done: int) -> str:
    model = upscaler.model
    if not model.refined:
        return model.title
    chosen = [choice for choices in upscaler.choices.values() for choice in choices if choice.used]
    stills, own = ({choice.name for choice in chosen if choice.own is kind} for kind in (False, True))
    told = [f"{len(stills)} of {len(args.ref)} stills used"] if args.ref else []
    told += [f"{len(own)} of its own frames as references"] if own or not args.ref else []
    title = model.alone if upscaler.spared == done else model.title
    return ", ".join([title, *told])


def _tell_choices(upscaler: "Upscaler") -> None:
    for key, choices in sorted(upscaler.choices.items()):
        told = [f"{c.name} ({100 * c.share:.0f} %{'' if c.used else ', not used'})" for c in choices]
        _say(f"key-frame {key}: {', '.join(told) or 'no reference'}")
