"""`ldip upscale --dry-run`: what a run would take, without running it."""

import argparse
import json
import sys
from itertools import islice
from typing import TYPE_CHECKING

from ldip_jax.errors import InputError

if TYPE_CHECKING:
    from ldip_jax.inference.reference_images import Still
    from ldip_jax.inference.upscaler import Upscaler
    from ldip_jax.media.clip import Clip


def dry_run(
    args: argparse.Namespace,
    clip: "Clip",
    stills: "list[Still]",
    upscaler: "Upscaler",
) -> None:
    """Print what the run would take.

    Raises:
        InputError: the clip cannot be upscaled with these options.
    """
    from ldip_jax.atomic import atomic_open
    from ldip_jax.inference.time_estimate import TRIAL_FRAMES, estimate_seconds
    from ldip_jax.memory import show_size

    for note in upscaler.notes:
        print(note, file=sys.stderr)
    if clip.count is not None:
        upscaler.check(clip.count, stills)
    frames = list(islice(clip.frames(), TRIAL_FRAMES))
    if not frames:
        raise InputError(f"{clip.path}: has no frames")
    count = clip.count
    plan = upscaler.memory_plan(count, len(stills))
    measured = len(frames) if count is None else count
    seconds = estimate_seconds(upscaler, frames, stills, measured)
    windows = None if count is None else upscaler.window_count(count)
    recurrence, detail = plan.layout.recurrence, plan.layout.detail
    report = {
        "input": str(clip.path),
        "frames": count,
        "size": [clip.width, clip.height],
        "output_size": list(upscaler.out_size[::-1]),
        "windows": windows,
        "window_frames": plan.window_length,
        "tiles": {"backbone": recurrence.count, "detail": detail.count},
        "memory": plan.memory,
        "memory_allowed": plan.budget,
        "disk": plan.disk,
        "seconds": round(seconds, 1),
        "seconds_per_frame": round(seconds / measured, 3),
    }
    known = f"{count} frames" if count is not None else "an unknown number of frames"
    many = "" if windows is None else f"{windows} window{'s' * (windows != 1)} of "
    print(
        f"{clip.path}: {known}, {clip.width}x{clip.height} to {upscaler.out_size[1]}x{upscaler.out_size[0]}"
    )
    print(f"windows: {many}at most {plan.window_length} frames")
    print(f"tiles: {recurrence.count} for the backbone, {detail.count} for references and decoding")
    print(f"memory: {show_size(plan.memory)} of {show_size(plan.budget)}, {show_size(plan.disk)} on disk")
    whole = f"{seconds:.0f} s" if count is not None else "unknown"
    print(f"time: about {whole}, {seconds / measured:.2f} s a frame, without compiling")
    if args.json is not None:
        with atomic_open(args.json) as file:
            file.write(json.dumps(report, indent=2).encode() + b"\n")
