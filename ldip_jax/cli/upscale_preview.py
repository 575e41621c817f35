"""`ldip upscale --preview`: a few frames from across a clip, and which references matched there."""

import argparse
import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ldip_jax.cli.frame_source import FrameSource, open_source, requested_part
from ldip_jax.cli.reference_arguments import read_stills
from ldip_jax.cli.upscale_profile import write_profile
from ldip_jax.cli.upscale_report import ReportFrames, check_report_file
from ldip_jax.cli.upscale_reporter import Reporter, choice_lines, softening_line
from ldip_jax.cli.upscaler_cache import UpscalerCache
from ldip_jax.errors import InputError
from ldip_jax.inference.mrefsr import MRefSRUpscaler
from ldip_jax.inference.reference_images import Still, stills_from
from ldip_jax.inference.streaming import overlap
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.media.clip import Clip, cut_clip
from ldip_jax.media.outputs import check_output, output_kind
from ldip_jax.media.writer import open_writer
from ldip_jax.profiling import Profile

# Frames that a part may have, because they are held in memory.
LONGEST_PART = 96


@dataclass(frozen=True)
class _Part:
    """Frames to show, and the frames `first` to `stop - 1` from which they are made."""

    places: list[int]
    first: int
    stop: int


def _preview_parts(count: int, wanted: int, stride: int, key_frames: Collection[int]) -> list[_Part]:
    """Evenly spread frames; around each, the frames that it would share with its neighbours in a long run.

    They begin at a multiple of the stride, so that key-frames are those of the whole clip. Frames that share
    key-frames are in one part, because matching these takes longer than the frames in between.

    Args:
        key_frames: show the key-frames next to those places instead, if there are enough: fewer frames have
            to be matched for them. May be empty.
    """
    wanted = min(wanted, count)
    reach = overlap(stride)
    places = [(2 * number + 1) * count // (2 * wanted) for number in range(wanted)]
    if key_frames:
        nearest = [min(key_frames, key=lambda key: abs(key - place)) for place in places]
        places = nearest if len(set(nearest)) == wanted else places
    parts: list[_Part] = []
    for place in places:
        first, stop = max(0, (place - reach) // stride * stride), min(count, place + reach + 1)
        last = parts[-1] if parts else None
        if last is not None and place - last.places[-1] <= stride and stop - last.first <= LONGEST_PART:
            parts[-1] = _Part([*last.places, place], last.first, stop)
        else:
            parts.append(_Part([place], first, stop))
    return parts


def _with_frames(clip: Clip, parts: list[_Part], on_error: str) -> Iterator[tuple[_Part, list[np.ndarray]]]:
    """Each part with its frames, read in one pass."""
    held: deque[tuple[int, np.ndarray]] = deque()
    waiting = deque(parts)
    for place, frame in enumerate(FrameSource(clip, on_error).frames()):
        held.append((place, frame))
        while held and held[0][0] < waiting[0].first:
            held.popleft()
        while waiting and place == waiting[0].stop - 1:
            part = waiting.popleft()
            yield part, [kept for number, kept in held if number >= part.first]
        if not waiting:
            return


def preview(args: argparse.Namespace, networks: UpscalerCache, reporter: Reporter) -> None:
    """Upscale `args.preview` frames into the folder `args.output`, if there is one, and onto a page.

    Raises:
        InputError: something that the user gave cannot be used.
    """
    out: Path | None = args.output
    if out is not None and output_kind(out) != "folder":
        raise InputError(f"{out}: a preview is a folder of PNG files, or a page of --report; name a folder")
    if args.matcher not in ("gmflow", "flow"):
        raise InputError(f"--preview: --matcher {args.matcher} has matches only for whole clips; use gmflow")
    if not isinstance(args.cuts, str):
        raise InputError("--preview: detects cuts around each frame; give --cuts auto or none")
    began = time.perf_counter()
    with open_source(args, args.input) as whole:
        first, stop = requested_part(args, whole)
        clip = cut_clip(whole, first, stop)
        if clip.count is None:
            raise InputError(f"{clip.path}: its length is not known; give a file for --preview")
        names = {place: clip.names[place] for place in range(clip.count)}
        if out is not None:
            check_output(out, overwrite=args.overwrite, inputs=[clip.path], names=list(names.values()))
        if args.report is not None:
            check_report_file(
                args.report, out or args.report / "-", (".html", ".htm"), "report", overwrite=args.overwrite
            )
        if args.profile is not None:
            check_report_file(
                args.profile, out or args.profile / "-", (".json",), "profile", overwrite=args.overwrite
            )
        stills = read_stills(args.ref, args.ref_mask, whole, reporter.note)
        upscaler = networks.upscaler(clip, has_stills=bool(stills))
        for note in upscaler.notes:
            reporter.note(note)
        key_frames = set()
        if stills:
            moments = {still.moment - first for still in stills if still.moment is not None}
            key_frames = {*range(0, clip.count, args.key_stride), *moments.intersection(range(clip.count))}
        parts = _preview_parts(clip.count, args.preview, args.key_stride, sorted(key_frames))
        shown = [place for part in parts for place in part.places]
        samples = None
        if args.report is not None:
            samples = ReportFrames(args.report, clip.count, shown)
        height, width = upscaler.out_size
        writer = None
        if out is not None:
            writer = open_writer(
                out,
                height=height,
                width=width,
                names=[names[place] for place in shown],
                bit_depth=args.bit_depth,
                overwrite=args.overwrite,
            )
        # The first of them takes long.
        reporter.note(f"frames to show: {', '.join(str(first + place) for place in shown)}")
        choices = {}
        profile = None if args.profile is None else Profile()
        with profile or nullcontext(), writer or nullcontext():
            for part, frames in _with_frames(clip, parts, args.on_error):
                for place, image in _upscaled(upscaler, part, frames, stills, first):
                    if writer is not None:
                        writer.write(image)
                    if samples is not None:
                        samples.keep_input(place, frames[place - part.first])
                        samples.keep_output(place, image)
                    reporter.note(f"frame {first + place}")
                    done = shown.index(place) + 1
                    reporter.progress(done / len(shown), done)
                if isinstance(upscaler, Upscaler) and upscaler.soften is None:
                    # What the first part needs, as for the whole clip.
                    upscaler.soften = upscaler.softening
                    if upscaler.softening:
                        reporter.note(softening_line(upscaler))
                for line in choice_lines(upscaler, first + part.first):
                    reporter.note(f"  {line}")
                choices |= {part.first + key: found for key, found in upscaler.choices.items()}
        seconds = time.perf_counter() - began
        if out is not None:
            reporter.result(f"{out}: {len(shown)} frames of {clip.count}, {seconds:.1f} s", frames=len(shown))
        upscaler.choices.clear()
        upscaler.choices.update(choices)
        if samples is not None and isinstance(upscaler, Upscaler):
            samples.write(upscaler, stills, clip, seconds, upscaler.notes)
            reporter.result(f"{samples.path}: report")
        if args.profile is not None and profile is not None:
            write_profile(args.profile, profile, upscaler, len(shown))
            reporter.result(f"{args.profile}: profile")


def _upscaled(
    upscaler: Upscaler | MRefSRUpscaler,
    part: _Part,
    frames: list[np.ndarray],
    stills: list[Still],
    first: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """The frames to show, with their places; `first` is that of the requested part in the whole clip."""
    moved = stills_from(stills, first + part.first)
    made = range(part.places[0], part.places[-1] + 1)
    begin, stop = made.start - part.first, made.stop - part.first
    if isinstance(upscaler, Upscaler):
        images = upscaler.frames(frames, moved, wanted=range(begin, stop))
    else:
        images = islice(upscaler.frames(frames, moved), begin, stop)
    shown = set(part.places)
    return ((place, image) for place, image in zip(made, images, strict=True) if place in shown)
