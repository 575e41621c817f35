"""The options of `ldip upscale`, one function for each group of `--help`."""

import argparse
from fractions import Fraction

from ldip_jax.cli.reference_arguments import parse_moment, parse_reference
from ldip_jax.command import (
    add_memory_flag,
    add_reference_flags,
    at_least,
    file_or_folder,
    parse_cuts,
    parse_shard,
)
from ldip_jax.errors import InputError


def _size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT as (height, width)."""
    width, cross, height = text.lower().partition("x")
    if not cross or not (width.isdecimal() and height.isdecimal()) or 0 in (int(width), int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as 1920x1080")
    return int(height), int(width)


_HIGHEST_RATE = 1000


def _rate(text: str) -> Fraction:
    """Frames per second; 23.98, 29.97 and the like mean 24000/1001, 30000/1001 and so on."""
    try:
        # Not 1e9, which Fraction would take.
        rate = Fraction(text if "e" not in text.lower() else "0")
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= _HIGHEST_RATE:
        raise argparse.ArgumentTypeError(f"{text!r} is not a frame rate, such as 24, 29.97 or 24000/1001")
    broadcast = Fraction(round(rate * 1001 / 1000) * 1000, 1001)
    return broadcast if "." in text and abs(rate - broadcast) < Fraction(1, 200) else rate


def _bit_depth(text: str) -> int | str:
    return int(text) if text in ("8", "16") else text


def _moment(text: str) -> int | Fraction:
    moment = parse_moment(text)
    if moment is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a frame, such as 37, nor a time, such as 00:12.5"
        )
    return moment


def _softening(text: str) -> float | None:
    """None for auto, 0 for none, or a number of pixels."""
    # Slow to import.
    from ldip_jax.inference.arguments import as_softening

    try:
        return as_softening(text if text in ("auto", "none") else float(text))
    except (InputError, ValueError):
        what = "is neither auto, none nor a number of pixels from 0 to 3, such as 0.5"
        raise argparse.ArgumentTypeError(f"{text!r} {what}") from None


def add_soften_flag(group: argparse._ArgumentGroup) -> None:
    """Adds --soften."""
    group.add_argument(
        "--soften",
        type=_softening,
        metavar="auto|none|PIXELS",
        help="blur the frames before they are upscaled, for clips that are sharper than what the backbone was"
        " trained on, such as clips reduced by averaging. auto: found out from the first frames, with"
        " basicvsr-reds4; PIXELS: the standard deviation of a Gaussian (default: auto)",
    )


def add_clip(parser: argparse.ArgumentParser) -> None:
    """IN and OUT, and the size of OUT."""
    add = parser.add_argument
    add(
        "paths",
        metavar="IN OUT",
        nargs="*",
        type=file_or_folder,
        help="IN: a video file, a folder of images in the order of their numbers, or one image, animated or"
        " not; - reads YUV4MPEG2 (y4m) from standard input. OUT: a video file, one .png, or a folder for PNG;"
        " - writes y4m to standard output",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--scale",
        type=float,
        metavar="FACTOR",
        help="1 to 8, also fractional: OUT has round(FACTOR x height) rows and round(FACTOR x width) columns;"
        " 1 for backbones that only restore (default: 4)",
    )
    size.add_argument(
        "--size", type=_size, metavar="WIDTHxHEIGHT", help="size of OUT; each side 1 to 8 times that of IN"
    )
    add(
        "--fps",
        type=_rate,
        metavar="RATE",
        help="frames per second of images, such as 24, 29.97 or 24000/1001, for OUT as a video and for times"
        " (default: 25 in a video)",
    )


def add_part(group: argparse._ArgumentGroup) -> None:
    """Which part of the clip is upscaled."""
    add = group.add_argument
    add(
        "--start",
        type=_moment,
        metavar="MOMENT",
        help="begin with this frame, counted from 0, or at this time, MM:SS.S or HH:MM:SS.S. Sound and"
        " subtitles are cut accordingly; moments of reference images remain those of the whole clip",
    )
    end = group.add_mutually_exclusive_group()
    end.add_argument("--end", type=_moment, metavar="MOMENT", help="end before this frame or time")
    end.add_argument("--frames", type=at_least(1), metavar="N", help="upscale at most N frames")
    add(
        "--preview",
        type=at_least(1),
        metavar="N",
        help="make only N frames from across the clip, as PNG files in the folder OUT or on the page of"
        " --report (then without OUT), and report which references matched there",
    )
    add(
        "--matches",
        type=file_or_folder,
        metavar="DIR",
        help="only match the stills with frames from across the clip, without OUT, and report which parts no"
        " still matches and from where one would help; DIR gets pictures, coloured where a still matches, and"
        " matches.json",
    )
    add(
        "--on-error",
        choices=("stop", "skip", "hold"),
        default="stop",
        help="what to do at a damaged frame, or one of another size. stop: write what comes before it to"
        " OUT.partial, and end with exit code 2; skip: leave it out; hold: repeat the frame before it"
        " (default: %(default)s)",
    )


def add_run(group: argparse._ArgumentGroup) -> None:
    """Interrupted runs, several clips, and what is reported."""
    add = group.add_argument
    add(
        "--resume",
        action="store_true",
        help="continue an interrupted run from its folder .OUT.ldip; start from the beginning if there is"
        " none, and do nothing if OUT is complete",
    )
    add(
        "--output-dir",
        type=file_or_folder,
        metavar="DIR",
        help="upscale several clips, each IN, to files of the same names in DIR. A folder of videos means all"
        " videos in it",
    )
    add(
        "--format",
        choices=("mp4", "m4v", "mov", "mkv", "png"),
        help="format of the files in --output-dir; png: a folder for each clip (default: as IN, or mkv)",
    )
    add(
        "--shard",
        type=parse_shard,
        metavar="I/N|auto",
        help="with --output-dir: upscale every N-th clip from the I-th, counted from 0, then those that other"
        " processes have left. auto: I and N from srun, a job array, or COORDINATOR, NUM_PROCESSES and"
        " PROCESS_ID. Implies --resume",
    )
    add("--quiet", action="store_true", help="print only errors")
    add(
        "--verbose",
        action="store_true",
        help="report what is assumed about the colours of IN, which references each key-frame gets, how much"
        " of it they match, how they were calibrated, and why some are not used",
    )
    add(
        "--log-json",
        type=file_or_folder,
        metavar="FILE",
        help="also append what is reported, and progress, to FILE: one JSON object per line",
    )


def add_model(parser: argparse._ArgumentGroup) -> None:
    """Weights, references, and how these are used."""
    add = parser.add_argument
    add(
        "--ref",
        type=parse_reference,
        metavar="IMAGE[@MOMENT]",
        action="extend",
        nargs="+",
        default=[],
        help="reference images (stills): sharp images of the same scene, of any size, whose view is half to"
        " four times as wide as that of the frames. Their detail is used where they match. Give them after"
        " IN and OUT. They are calibrated to the exposure, gamma and white balance of the clip; images no"
        " sharper than the upscaled frame are not used. Of more than four, those most like a"
        " key-frame are matched with it. MOMENT binds an image to a frame, as a.png@37"
        " (counted from 0), or to a time, as a.png@00:12.5: that frame becomes a key-frame, and the image is"
        " used for the key-frames of its shot up to the next image with a moment",
    )
    add(
        "--ref-mask",
        metavar="IMAGE=MASK",
        action="extend",
        nargs="+",
        default=[],
        help="masks for reference images, of the same size; white marks what is used, black what is left out."
        " IMAGE is the file of a --ref, or its name without the extension",
    )
    add(
        "--backbone",
        metavar="NAME|FILE",
        default="basicvsr-reds4",
        help="the network that upscales: a name from `ldip weights list` or a checkpoint (default:"
        " %(default)s)",
    )
    add(
        "--restore",
        metavar="NAME|FILE",
        help="first restore the frames at the same size with this network, such as"
        " basicvsrpp-ntire-decompress1 for compressed clips or basicvsrpp-denoise for noisy ones (default:"
        " none)",
    )
    add_soften_flag(parser)
    add(
        "--lrrf",
        metavar="default|none|NAME|FILE",
        default="default",
        help="weights of LRRF, the module that uses references. default: the weights shipped for the"
        " backbone; only the backbone if there are none, or if they gain nothing without --ref. none: only"
        " the backbone. NAME: from `ldip weights list` (default: %(default)s)",
    )
    add_reference_flags(parser)
    add(
        "--matcher",
        metavar="gmflow|flow|DIR",
        default="gmflow",
        help="how references are matched. gmflow: by GMFlow; flow: faster, for small motion; DIR: your own"
        " matches, one KEYFRAME_STILL.npz for each pair, such as 00000008_photo.npz; the clip's own frames"
        " are then not used as references (default: %(default)s)",
    )
    add(
        "--flow",
        metavar="spynet|raft-large|raft-small|gmflow|FILE",
        help="the optical flow for LRRF and for --matcher flow. spynet: the backbone's own; otherwise weights"
        " of RAFT, GMFlow or SPyNet (default: the flow that LRRF was trained with)",
    )
    add(
        "--propagation",
        choices=("hrip", "carry", "both"),
        help="how detail gets from key-frames to the other frames. carry: warped once from the key-frames on"
        " either side; hrip: from frame to frame, as in the paper; both: carry, then hrip (default: the one"
        " that LRRF was trained for)",
    )
    add(
        "--cuts",
        type=parse_cuts,
        metavar="auto|none|FRAME,...",
        default="auto",
        help="where new shots begin; detail never crosses a cut. auto: detected; none: no cuts; FRAME,...:"
        " the first frames of new shots, counted from 0 (default: %(default)s)",
    )


def add_output(parser: argparse._ArgumentGroup) -> None:
    """How OUT is written, and what is reported."""
    add = parser.add_argument
    add(
        "--bit-depth",
        type=_bit_depth,
        choices=("auto", 8, 16),
        default="auto",
        help="bits per channel of PNG; for video, 16 gives 10 bits. auto: 8, but 10 for video if IN has"
        " more than 8 (default: %(default)s)",
    )
    add(
        "--codec",
        choices=("h264", "h265", "vp9", "av1", "prores", "ffv1"),
        default="h264",
        help="codec of video. h264, h265: any file; vp9, av1: .mp4, .m4v, .mkv; prores, always with 10"
        " bits: .mov, .mkv; ffv1, as --lossless: .mkv (default: %(default)s)",
    )
    quality = parser.add_mutually_exclusive_group()
    quality.add_argument(
        "--crf",
        type=at_least(0),
        metavar="N",
        help="quality of video: from 0 (best) to 51 (smallest file), or to 63 for vp9 and av1; prores and"
        " ffv1 have none (default: 18, or 24 for vp9 and av1)",
    )
    quality.add_argument(
        "--lossless",
        action="store_true",
        help="lossless video, whatever --codec says: FFV1 in .mkv, otherwise RGB H.264",
    )
    add("--overwrite", action="store_true", help="replace an existing OUT, report or profile")
    add(
        "--report",
        type=file_or_folder,
        metavar="FILE.html",
        help="also write a page with frames before and after, and the references that were used",
    )
    add(
        "--profile",
        type=file_or_folder,
        metavar="FILE.json",
        help="also write how many seconds each part took: decode, features, matching, fusion, carry, hrip,"
        " decoder, encode, compile. Parts wait for each other while this is measured",
    )


def add_memory(group: argparse._ArgumentGroup) -> None:
    """Memory, and what is said before the work."""
    add = group.add_argument
    add_memory_flag(group)
    add(
        "--dry-run",
        action="store_true",
        help="only report windows, tiles, memory and the expected time, measured on a small part of a few"
        " frames, and write nothing; exit code 0 if the clip can be upscaled, 2 if not",
    )
    add("--json", type=file_or_folder, metavar="FILE", help="with --dry-run: also write the report as JSON")
