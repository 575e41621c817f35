"""Upscales one clip for `ldip upscale`, step by step, so that another run can resume."""

import argparse
import base64
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ldip_jax.cli.dry_run import dry_run
from ldip_jax.cli.frame_source import FrameSource, open_source, requested_part
from ldip_jax.cli.reference_arguments import read_stills, split_masks
from ldip_jax.cli.upscale_identity import describe_run
from ldip_jax.cli.upscale_profile import write_profile
from ldip_jax.cli.upscale_report import ReportFrames, check_report_file
from ldip_jax.cli.upscale_reporter import Reporter, choice_lines, softening_line, summarise_method
from ldip_jax.cli.upscaler_cache import UpscalerCache
from ldip_jax.errors import InputError
from ldip_jax.inference.api import backbone_only_note
from ldip_jax.inference.memory_plan import MIN_QUEUE
from ldip_jax.inference.reference_images import Still, stills_from
from ldip_jax.inference.references import read_choice
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.media.background import WriteBehind, read_ahead
from ldip_jax.media.clip import Clip, cut_clip
from ldip_jax.media.outputs import check_output
from ldip_jax.media.run_folder import is_left_complete, is_left_unfinished
from ldip_jax.media.writer import Writer, open_writer
from ldip_jax.media.y4m import PIPE, PipeWriter
from ldip_jax.profiling import Profile, part, timed_items
from ldip_jax.progress import Progress


def is_complete(out: Path) -> bool:
    """Whether an output is there and no run has left a part of it."""
    there = any(out.iterdir()) if out.is_dir() else out.exists()
    return there and not is_left_unfinished(out)


def _may_replace(args: argparse.Namespace, out: Path) -> bool:
    """Whether the output may exist: it may also be that of the run which is resumed."""
    return args.overwrite or (args.resume and is_left_complete(out))


def upscale_clip(
    args: argparse.Namespace, source: Path, out: Path, networks: UpscalerCache, reporter: Reporter
) -> None:
    """Upscale one clip.

    Raises:
        InputError: something that the user gave cannot be used.
    """
    if args.resume and is_complete(out):
        reporter.result(f"{out}: complete already, nothing to do")
        return
    masks = [path for _, path in split_masks(args.ref, args.ref_mask)]
    input_files = [source, *(still.path for still in args.ref), *masks]
    if source == PIPE and args.resume:
        raise InputError("--resume: frames from standard input cannot be read again; give a file")
    with open_source(args, source) as whole:
        first, stop = requested_part(args, whole)
        clip = cut_clip(whole, first, stop)
        if out != PIPE:
            check_output(
                out,
                overwrite=_may_replace(args, out),
                inputs=input_files,
                names=clip.names if clip.count else None,
            )
        if args.report is not None:
            check_report_file(
                args.report, out, (".html", ".htm"), "report", overwrite=args.overwrite or args.resume
            )
        if args.profile is not None:
            check_report_file(
                args.profile, out, (".json",), "profile", overwrite=args.overwrite or args.resume
            )
        for note in [*clip.notes, *(clip.assumptions if reporter.verbose else [])]:
            reporter.note(f"{clip.path}: {note}")
        stills = stills_from(read_stills(args.ref, args.ref_mask, whole, reporter.note), first)
        if args.dry_run:
            if args.json is not None:
                check_report_file(args.json, out, (".json",), "report", overwrite=args.overwrite)
            upscaler = networks.upscaler(clip, has_stills=bool(stills), first=first)
            assert isinstance(upscaler, Upscaler), "MRefSR has no dry run"
            writer = _open_output(args, clip, out, *networks.output_size(clip))
            upscaler.reserve(writer.held_bytes(clip.count))
            dry_run(args, clip, stills, upscaler)
            return
        _ClipRun(args, clip, out, stills, networks, reporter, first).run()


def _open_output(
    args: argparse.Namespace,
    clip: Clip,
    out: Path,
    height: int,
    width: int,
    identity: dict[str, Any] | None = None,
) -> Writer | PipeWriter:
    """What frames are written to; nothing is made before it is entered.

    Raises:
        InputError: the output cannot be written this way.
    """
    if out == PIPE:
        if args.crf is not None or args.lossless or args.codec != "h264":
            raise InputError("--codec, --crf and --lossless: frames are piped as they are; leave these out")
        deep = args.bit_depth == 16 or (args.bit_depth == "auto" and clip.color.bits > 8)
        return PipeWriter(height, width, clip, high_depth=deep)
    return open_writer(
        out,
        height=height,
        width=width,
        source=clip,
        bit_depth=args.bit_depth,
        crf=args.crf,
        lossless=args.lossless,
        codec=args.codec,
        overwrite=_may_replace(args, out),
        identity=identity,
        resume=args.resume,
    )


class _ClipRun:
    """One clip on its way."""

    def __init__(
        self,
        args: argparse.Namespace,
        clip: Clip,
        out: Path,
        stills: Sequence[Still],
        networks: UpscalerCache,
        reporter: Reporter,
        first: int,
    ):
        self._args, self._clip, self._out, self._stills = args, clip, out, list(stills)
        self._reporter = reporter
        height, width = networks.output_size(clip)
        # The output's settings are checked before weights are fetched.
        held = _open_output(args, clip, out, height, width).held_bytes(clip.count)
        self._upscaler = networks.upscaler(clip, has_stills=bool(stills), first=first)
        if isinstance(self._upscaler, Upscaler):
            self._upscaler.reserve(held)
        self._size = height, width
        self._notes = list(self._upscaler.notes)
        self._samples = None if args.report is None else ReportFrames(args.report, clip.count)
        self._profile = None if args.profile is None else Profile()
        self._source = FrameSource(clip, args.on_error)

    def _note(self, line: str) -> None:
        self._notes.append(line)
        self._reporter.note(line)

    def run(self) -> None:
        clip, upscaler, reporter = self._clip, self._upscaler, self._reporter
        for note in self._notes:
            reporter.note(note)
        if clip.count is not None:
            # Beyond a part of the clip, moments of stills may be anything.
            upscaler.check(clip.count, [s for s in self._stills if 0 <= (s.moment or 0) < clip.count])
        run_identity = None
        if PIPE not in (clip.path, self._out):
            run_identity = describe_run(self._args, clip.path, upscaler, self._stills)
        writer = _open_output(self._args, clip, self._out, *self._size, run_identity)
        began = time.perf_counter()
        try:
            with self._profile or nullcontext(), writer:
                if writer.complete:
                    reporter.result(f"{self._out}: complete already, nothing to do")
                    return
                done = self._write_frames(writer)
                if self._source.error is not None and self._out != PIPE:
                    writer.path = self._out.with_name(f"{self._out.stem}.partial{self._out.suffix}")
        except BaseException:
            if writer.resumable_folder is not None:
                done = writer.finished
                reporter.failure(
                    f"{writer.resumable_folder}: holds the {done} frame{'s' * (done != 1)} finished so far;"
                    " give the same command with --resume to continue"
                )
            raise
        self._report(writer, done, time.perf_counter() - began)

    def _write_frames(self, writer: Writer | PipeWriter) -> int:
        """Write all frames that there are not yet; returns how many the output has."""
        clip, upscaler, samples = self._clip, self._upscaler, self._samples
        done = writer.finished
        if writer.discarded_frames:
            self._reporter.note(
                f"{self._out}: {writer.discarded_frames} frames of an unfinished run are thrown away;"
                " --resume would continue it"
            )
        if done:
            self._reporter.note(f"{self._out}: continues after {done} finished frames")
        work = None if clip.count is None else upscaler.work(clip.count, self._stills, done)
        choices, backbone_only_frames = {}, 0
        for step in writer.steps:
            backbone_only_frames += step.extra["backbone_only_frames"]
            choices |= {int(key): list(map(read_choice, made)) for key, made in step.extra["choices"].items()}
            if samples is not None:
                samples.restore(step.extra.get("samples", {}))
        title = f"{clip.path.name}"
        with Progress(title, work, upscaler.costs(), quiet=self._reporter.quiet) as progress:
            ahead, behind = self._queues()
            decoded = read_ahead(self._source.frames(), ahead)
            with closing(decoded), WriteBehind(behind) as writing:

                def advance(kind: str) -> None:
                    writing.check()
                    progress.advance(kind)
                    self._reporter.progress(progress.share, done)

                frames = timed_items("decode", "", decoded)
                if samples is not None:
                    frames = samples.keep_inputs(frames)
                for segment in upscaler.segments(frames, self._stills, advance):
                    if segment.places.stop <= done:
                        continue
                    backbone_only_before = upscaler.backbone_only_frames
                    writing.do(writer.begin, len(segment.places))
                    sample_pngs: dict[int, str] = {}
                    for place, image in zip(segment.places, segment.images, strict=True):
                        writing.do(self._write_frame, writer, place, image, sample_pngs)
                        # The thread that writes it is to be the last to hold it.
                        del image
                    segment_choices = {
                        key: upscaler.choices[key] for key in upscaler.choices if key in segment.places
                    }
                    backbone_only = upscaler.backbone_only_frames - backbone_only_before
                    extra = {
                        "choices": {
                            key: [choice.as_json() for choice in chosen]
                            for key, chosen in segment_choices.items()
                        },
                        "backbone_only_frames": backbone_only,
                    }
                    writing.do(self._end_step, writer, extra, sample_pngs)
                    backbone_only_frames += backbone_only
                    choices |= segment_choices
                    done = segment.places.stop
        upscaler.choices.update(choices)
        upscaler.backbone_only_frames = backbone_only_frames
        return done

    def _queues(self) -> tuple[int, int]:
        """How many frames may wait to be processed, and to be written."""
        if self._profile is not None:
            return 0, 0
        if not isinstance(self._upscaler, Upscaler):
            return MIN_QUEUE, MIN_QUEUE
        plan = self._upscaler.memory_plan(self._clip.count, len(self._stills))
        return plan.read_ahead, plan.write_behind

    def _write_frame(
        self, writer: Writer | PipeWriter, place: int, image: np.ndarray, sample_pngs: dict[int, str]
    ) -> None:
        """Write a frame; as PNG, it is added to `sample_pngs` if the report shows it."""
        with part("encode"):
            writer.write(image, self._source.numbers[place])
        if self._samples is not None and (data := self._samples.keep_output(place, image)) is not None:
            sample_pngs[place] = base64.b64encode(data).decode()

    def _end_step(
        self, writer: Writer | PipeWriter, extra: dict[str, Any], sample_pngs: dict[int, str]
    ) -> None:
        writer.end({**extra, **({"samples": sample_pngs} if sample_pngs else {})})

    def _report(self, writer: Writer | PipeWriter, done: int, seconds: float) -> None:
        clip, upscaler, source = self._clip, self._upscaler, self._source
        for still in self._stills:
            if still.moment is not None and still.moment >= done and clip.count is None:
                self._note(f"{still.name}: belongs to frame {still.moment}, after the clip's last one")
        if self._reporter.verbose:
            for line in choice_lines(upscaler):
                self._reporter.note(line)
        for note in writer.notes:
            self._reporter.note(note)
        for note in source.notes:
            self._note(note)
        if isinstance(upscaler, Upscaler) and upscaler.softening and self._args.soften is None:
            self._note(softening_line(upscaler))
        if isinstance(upscaler, Upscaler) and upscaler.backbone_only_frames:
            self._note(backbone_only_note(upscaler, done))
        height, width = self._size
        self._reporter.result(
            f"{writer.path}: {done} frame{'s' * (done != 1)}, {clip.width}x{clip.height} to {width}x{height},"
            f" {summarise_method(upscaler, len(self._stills), done)}, {seconds:.1f} s"
            f" ({seconds / max(done - writer.resumed_frames, 1):.2f} s a frame)",
            output=str(writer.path),
            frames=done,
            seconds=round(seconds, 3),
        )
        if self._samples is not None and self._samples.empty:
            self._reporter.note(f"{self._samples.path}: left out, because an earlier run has made all frames")
        elif self._samples is not None and isinstance(upscaler, Upscaler):
            self._samples.write(upscaler, self._stills, clip, seconds, self._notes)
            self._reporter.result(f"{self._samples.path}: report")
        if self._profile is not None:
            write_profile(self._args.profile, self._profile, upscaler, done)
            self._reporter.result(f"{self._args.profile}: profile")
        if source.error is not None:
            raise InputError(
                f"{source.error}; the {done} frames before it are in {writer.path}, and --on-error skip or"
                " hold passes over it"
            )
