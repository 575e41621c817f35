"""`ldip upscale --matches`: which stills match which part of a clip, and which to add."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from ldip_jax.atomic import atomic_open
from ldip_jax.cli.frame_source import FrameSource, open_source, requested_part
from ldip_jax.cli.reference_arguments import read_stills
from ldip_jax.cli.upscale_reporter import Reporter, describe_choice
from ldip_jax.cli.upscaler_cache import UpscalerCache
from ldip_jax.errors import InputError
from ldip_jax.inference.coverage import KeyMatch, advice, match_clip, spread_key_frames
from ldip_jax.inference.cuts import find_cuts
from ldip_jax.inference.reference_images import stills_from
from ldip_jax.inference.references import ReferenceChoice
from ldip_jax.inference.upscaler import MIN_SIDE_FOR_CUTS, Upscaler
from ldip_jax.media.clip import Clip, cut_clip
from ldip_jax.media.outputs import check_output, check_parent, output_kind

MOST_KEYS = 12
# The longer side of the pictures.
SIDE = 480
RESULT = "matches.json"


def matches(args: argparse.Namespace, networks: UpscalerCache, reporter: Reporter) -> None:
    """Match the stills with frames from across the clip, and write the result to the folder `args.matches`.

    Raises:
        InputError: something that the user gave cannot be used.
    """
    out: Path = args.matches
    _check(args, out)
    with open_source(args, args.input) as whole:
        first, stop = requested_part(args, whole)
        clip = cut_clip(whole, first, stop)
        if clip.count is None:
            raise InputError(f"{clip.path}: its length is not known; give a file for --matches")
        check_output(out, overwrite=args.overwrite, inputs=[clip.path])
        stills = stills_from(read_stills(args.ref, args.ref_mask, whole, reporter.note), first)
        upscaler = networks.upscaler(clip, has_stills=True)
        assert isinstance(upscaler, Upscaler), "MRefSR matches every frame"
        if not upscaler.model.refined:
            raise InputError("--matches: only LRRF uses stills; choose other weights with --lrrf")
        for note in upscaler.notes:
            reporter.note(note)
        out.mkdir(exist_ok=True)
        names = [still.name for still in stills]
        choices: dict[int, list[ReferenceChoice]] = {}
        rows: list[dict[str, Any]] = []
        large = min(clip.height, clip.width) >= MIN_SIDE_FOR_CUTS
        cuts = find_cuts(FrameSource(clip, args.on_error).frames()) if large else []
        key_frames = spread_key_frames(clip.count, args.key_stride, MOST_KEYS, cuts)
        frames = FrameSource(clip, args.on_error).frames()
        for match in match_clip(upscaler, frames, stills, key_frames, cuts):
            choices[match.frame] = match.choices
            rows.append(_write(out, match, names, first + match.frame, _when(clip, match.frame)))
            reporter.note(f"frame {first + match.frame}: {', '.join(map(describe_choice, match.choices))}")
            reporter.event("match", of=len(key_frames), **rows[-1])
    lines = advice(choices, names, clip.count, lambda frame: _named(clip, first, frame))
    report = {"frames": clip.count, "matches": rows, "advice": lines}
    with atomic_open(out / RESULT) as file:
        file.write(json.dumps(report, indent=1).encode() + b"\n")
    for line in lines:
        reporter.result(line)


def _check(args: argparse.Namespace, out: Path) -> None:
    if output_kind(out) != "folder":
        raise InputError(f"{out}: the result of --matches is a folder of pictures; name a folder")
    check_parent(out)
    if not args.ref:
        raise InputError("--matches: shows where stills match; give some with --ref")
    if args.method != "ldip":
        raise InputError("--matches: is for LDIP; leave --method out")
    if args.matcher not in ("gmflow", "flow"):
        raise InputError(f"--matches: --matcher {args.matcher} has matches already; use gmflow")
    if args.cuts != "auto":
        raise InputError("--matches: detects cuts itself; leave --cuts out")


def _write(
    out: Path, match: KeyMatch, names: Sequence[str], number: int, seconds: float | None
) -> dict[str, Any]:
    """Write a frame's pictures; returns what `RESULT` says of the frame, `number` in the whole clip."""
    union = np.max([np.zeros(match.image.shape[:2]), *match.maps.values()], axis=0)
    row: dict[str, Any] = {"frame": number, "seconds": seconds, "picture": f"{number:08d}.jpg"}
    row["covered"] = round(float((union > 0.5).mean()), 4)
    _save(out / row["picture"], spotlight(match.image, union))
    row["stills"] = {}
    for choice in match.choices:
        of_still = {
            "share": round(choice.share, 4),
            "used": choice.used,
            "note": choice.note,
            "picture": None,
        }
        if choice.name in match.maps:
            of_still["picture"] = f"{number:08d}_{names.index(choice.name)}.jpg"
            _save(out / of_still["picture"], spotlight(match.image, match.maps[choice.name]))
        row["stills"][choice.name] = of_still
    return row


def spotlight(
    image: Float[np.ndarray, "H W 3"], confidence: Float[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W 3"]:
    """A frame in its colours where a still matches, and dark grey elsewhere."""
    grey = 0.35 * image.mean(axis=-1, keepdims=True)
    mixed = grey + (image - grey) * np.clip(confidence, 0.0, 1.0)[..., None]
    return np.round(255 * np.clip(mixed, 0.0, 1.0)).astype(np.uint8)


def _save(path: Path, picture: UInt8[np.ndarray, "H W 3"]) -> None:
    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    with atomic_open(path) as file:
        image.save(file, "JPEG", quality=88)


def _when(clip: Clip, frame: int) -> float | None:
    """Seconds from the first frame of the part; None for images, which have no times."""
    return None if clip.fps is None else round(float(clip.seconds(frame)), 3)


def _named(clip: Clip, first: int, frame: int) -> str:
    """A frame of the part, by its time and its number in the whole clip."""
    seconds = _when(clip, frame)
    if seconds is None:
        return f"frame {first + frame}"
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes):02d}:{rest:04.1f} (frame {first + frame})"
