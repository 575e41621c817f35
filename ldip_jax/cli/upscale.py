"""`ldip upscale`: upscales clips."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from ldip_jax.cli.upscale_flags import add_clip, add_memory, add_model, add_output, add_part, add_run
from ldip_jax.cli.upscale_mrefsr import check_method
from ldip_jax.command import add_method_flags
from ldip_jax.errors import InputError

_DESCRIPTION = """\
Upscale IN to OUT. The extension of OUT decides: a video (.mp4, .m4v, .mov, .mkv), one .png, or otherwise a
folder of PNG files named like the inputs. Times of frames, sound, subtitles, tags and colours of a video are
kept, and what OUT cannot hold is named. OUT is written completely or not at all.
"""
_USAGE = """\
ldip upscale IN OUT [options]
       ldip upscale IN ... --output-dir DIR [options]
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the command to `ldip`."""
    parser = subparsers.add_parser(
        "upscale", help="upscale videos or folders of images", description=_DESCRIPTION, usage=_USAGE
    )
    add_clip(parser)
    add_part(parser.add_argument_group("part of the clip"))
    add_model(parser.add_argument_group("weights and references"))
    add_method_flags(
        parser.add_argument_group("methods to compare with"),
        "mrefsr: MRefSR, x4, every frame by itself, with all reference images",
    )
    add_output(parser.add_argument_group("output"))
    add_run(parser.add_argument_group("run"))
    add_memory(parser.add_argument_group("memory and time"))
    parser.set_defaults(run=run, parser=parser, needs_less="a smaller --memory makes smaller tiles")


def run(args: argparse.Namespace) -> int:
    """Upscales; returns the exit code: 0, or 2 if a clip of several could not be upscaled."""
    _split_paths(args)
    # Before anything slow is imported. Of several clips, a missing one must not stop the others.
    _check_exist([args.input, *(still.path for still in args.ref)])
    check_method(args)
    if args.json is not None and not args.dry_run:
        raise InputError(f"--json {args.json}: needs --dry-run; add it, or leave --json out")
    if args.dry_run and (args.output_dir is not None or args.preview is not None):
        raise InputError("--dry-run: is for one clip; leave --output-dir and --preview out")
    makes = (args.output, args.preview, args.report, args.output_dir)
    if args.matches is not None and (args.dry_run or any(made is not None for made in makes)):
        raise InputError("--matches: makes nothing else; leave OUT, --preview, --report and --dry-run out")
    if args.profile is not None and (args.dry_run or args.matches is not None):
        raise InputError("--profile: is of a run that makes frames; leave --dry-run and --matches out")
    if args.shard == "auto":
        # This must happen before JAX looks for devices.
        from ldip_jax.processes import own_shard

        args.shard = own_shard()
    from ldip_jax.cli.upscale_reporter import Reporter

    with Reporter(args) as reporter:
        if args.output_dir is not None:
            from ldip_jax.cli.upscale_many import upscale_many

            return upscale_many(args, reporter)
        from ldip_jax.cli.upscale_clip import upscale_clip
        from ldip_jax.cli.upscaler_cache import UpscalerCache

        networks = UpscalerCache(args, reporter.note)
        if args.matches is not None:
            from ldip_jax.cli.upscale_matches import matches

            matches(args, networks, reporter)
        elif args.preview is not None:
            from ldip_jax.cli.upscale_preview import preview

            preview(args, networks, reporter)
        else:
            upscale_clip(args, args.input, args.output, networks, reporter)
    return 0


def _check_exist(paths: Sequence[Path | None]) -> None:
    for path in paths:
        try:
            missing = path is not None and path != Path("-") and not path.exists()
        except (OSError, ValueError):
            # Whoever opens it reports what else is wrong.
            missing = False
        if missing:
            raise InputError(f"{path}: no such file or folder; check the name")


def _split_paths(args: argparse.Namespace) -> None:
    """Find IN and OUT, or all of several IN; a wrong number of them ends the program with a hint."""
    paths: list[Path] = args.paths
    args.input = args.output = None
    for flag in ("format", "shard"):
        if getattr(args, flag) is not None and args.output_dir is None:
            raise InputError(f"--{flag}: is for several clips; give --output-dir too")
    if args.output_dir is not None:
        if not paths:
            args.parser.error(f"no IN is given{_taken_by_ref(args, 1)}")
        _check_many(args)
        return
    if len(paths) == 1 and (args.matches or (args.preview is not None and args.report is not None)):
        args.input = paths[0]
        return
    if len(paths) < 2:
        missing = "OUT is missing" if paths else "IN and OUT are missing"
        args.parser.error(f"{missing}{_taken_by_ref(args, 2 - len(paths))}")
    if len(paths) > 2:
        args.parser.error(f"{len(paths)} paths, but one IN and one OUT are needed; give stills with"
                          " --ref; for several clips, give --output-dir DIR")  # fmt: skip
    args.input, args.output = paths
    if args.output == Path("-") and args.resume:
        raise InputError("--resume: what is written to standard output cannot be continued")


def _check_many(args: argparse.Namespace) -> None:
    if any(given is not None for given in (args.preview, args.report, args.profile)):
        raise InputError("--preview, --report and --profile: are for one clip; leave --output-dir out")
    if args.shard is not None and args.overwrite:
        raise InputError("--shard: keeps what is complete; remove old results instead of --overwrite")
    if args.shard is not None:
        args.resume = True


def _taken_by_ref(args: argparse.Namespace, count: int) -> str:
    """A hint if --ref seems to have taken paths that were meant for IN and OUT."""
    if len(args.ref) <= count and not any(os.path.isdir(still.path) for still in args.ref):
        return "" if not args.ref else "; give them before --ref, which takes all paths that follow it"
    taken = ", ".join(still.text for still in args.ref[-count:])
    return f"; --ref took {taken}: give IN and OUT first, as in: ldip upscale IN OUT --ref IMAGE"
