"""Several clips for `ldip upscale --output-dir`: which these are, and one after the other."""

import argparse
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ldip_jax.cli.upscale_clip import is_complete, upscale_clip
from ldip_jax.cli.upscale_reporter import Reporter
from ldip_jax.cli.upscaler_cache import UpscalerCache
from ldip_jax.errors import InputError
from ldip_jax.media.image_files import NotAnImageError
from ldip_jax.media.images import SUFFIXES, image_info
from ldip_jax.media.outputs import CONTAINERS, VIDEOS
from ldip_jax.media.run_folder import BusyError

Outcome = Literal["done", "failed", "internal", "busy"]


@dataclass(frozen=True)
class Job:
    """A clip and its output."""

    source: Path
    out: Path


def find_jobs(paths: list[Path], folder: Path, output_format: str | None) -> list[Job]:
    """The clips that these paths mean, each with its output in `folder`.

    Args:
        paths: clips, or folders of videos.
        output_format: the format of all outputs; None: that of each input.

    Raises:
        InputError: a folder holds both videos and images, or two outputs would have the same name.
    """
    jobs: dict[Path, Path] = {}
    for path in paths:
        for source in _clips_in(path):
            out = folder / _output_name(source, output_format)
            if out in jobs:
                raise InputError(
                    f"{source}: would share its output {out.name} with {jobs[out]}; rename one of them"
                )
            jobs[out] = source
    return [Job(source, out) for out, source in jobs.items()]


def _clips_in(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    try:
        held = sorted(entry for entry in path.iterdir() if entry.name[0] != "." and not entry.is_dir())
    except OSError as error:
        raise InputError(f"{path}: cannot be listed ({error.strerror}); check its permissions") from error
    videos = [entry for entry in held if entry.suffix.lower() in VIDEOS]
    images = [entry for entry in held if entry.suffix.lower() in SUFFIXES]
    if videos and images:
        raise InputError(
            f"{path}: holds videos ({videos[0].name}) and images ({images[0].name}); put them in folders of"
            " their own"
        )
    return videos or [path]


def _output_name(source: Path, output_format: str | None) -> str:
    if source.is_dir():
        name = source.resolve().name
        return name if output_format in (None, "png") else f"{name}.{output_format}"
    if source.suffix.lower() in SUFFIXES:
        return _image_name(source, output_format)
    if output_format is not None:
        return source.stem if output_format == "png" else f"{source.stem}.{output_format}"
    return source.name if source.suffix.lower() in CONTAINERS else f"{source.stem}.mkv"


def _image_name(source: Path, output_format: str | None) -> str:
    try:
        info = image_info(source)
        moving = info.animated or info.paged
    except (NotAnImageError, InputError):
        # Whoever reads it says what is wrong.
        moving = False
    if not moving:
        return f"{source.stem}.png" if output_format in (None, "png") else f"{source.stem}.{output_format}"
    return source.stem if output_format == "png" else f"{source.stem}.{output_format or 'mkv'}"


def upscale_many(args: argparse.Namespace, reporter: Reporter) -> int:
    """Upscale several clips; returns the exit code: 0, 2 if a clip failed, 1 after an internal error.

    With --shard, the clips of this process come first, then those that others have not done. Each clip is
    made by one process at a time.

    Raises:
        InputError: the clips or the folder of the outputs cannot be used.
    """
    jobs = find_jobs(args.paths, args.output_dir, args.format)
    if args.output_dir.exists() and not args.output_dir.is_dir():
        raise InputError(f"{args.output_dir}: is a file; choose another --output-dir")
    order = list(enumerate(jobs, start=1))
    if args.shard is not None:
        index, count = args.shard
        own_jobs = order[index::count]
        order = own_jobs + [job for job in order if job not in own_jobs]
    networks = UpscalerCache(args, reporter.note)
    outcomes: dict[Path, Outcome] = {}
    for number, job in order:
        if args.shard is not None and is_complete(job.out):
            outcomes[job.out] = "done"
            continue
        reporter.set_clip(str(job.source))
        reporter.note(f"[{number}/{len(jobs)}] {job.source}")
        outcomes[job.out] = _upscale_one(args, job, networks, reporter)
    reporter.set_clip(None)
    found = list(outcomes.values())
    done, busy = found.count("done"), found.count("busy")
    failed = len(found) - done - busy
    lines = [f"{done} of {len(jobs)} clips are done"]
    lines += [f"{failed} failed"] if failed else []
    lines += [f"{busy} are being made by other processes"] if busy else []
    reporter.result(f"{args.output_dir}: {', '.join(lines)}", done=done, failed=failed, busy=busy)
    return 1 if "internal" in found else 2 if failed else 0


def _upscale_one(args: argparse.Namespace, job: Job, networks: UpscalerCache, reporter: Reporter) -> Outcome:
    try:
        upscale_clip(args, job.source, job.out, networks, reporter)
        return "done"
    except BusyError as error:
        if args.shard is not None:
            reporter.note(str(error))
            return "busy"
        reporter.failure(f"ldip: {error}")
        return "failed"
    except InputError as error:
        reporter.failure(f"ldip: {error}")
        return "failed"
    except Exception as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            reporter.failure(
                f"ldip: {job.source}: out of memory; smaller frames or a smaller --scale need less"
            )
            return "failed"
        reporter.failure(f"ldip: {job.source}: internal error\n{traceback.format_exc()}")
        return "internal"
