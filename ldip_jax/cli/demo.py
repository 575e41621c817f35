"""`ldip demo`: upscales a real clip by every method, scores the results and shows them."""

import argparse
import shlex
import shutil
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ldip_jax.report.content import Method

_DESCRIPTION = """\
Upscale 16 frames of a real clip by 4: by bicubic interpolation, by only the backbone, and by LDIP with no, 2
and 5 reference stills of the same shot. The command prints how close each result is to the original. It
writes a report, a side-by-side picture, the best result as a video, and the input images. The clip and the
weights are fetched once.
"""

# On 2 CPU cores, including compilation: 20 seconds of CPU time without LDIP, 600 with it.
_TIME = {False: "less than a minute", True: "about 4 minutes"}

_PROTOCOL = "PSNR and SSIM: on the luma of 8-bit frames, no border cropped, averaged over the frames."
_TIMES = "Times include compilation; matches computed for an earlier row are reused."


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the command to `ldip`."""
    parser = subparsers.add_parser(
        "demo",
        help="upscale a real clip with and without references, and show the results",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        default=Path("demo"),
        help="folder for the results; results of an earlier demo are replaced (default: demo)",
    )
    parser.add_argument(
        "--lrrf",
        metavar="default|none|NAME|FILE",
        default="default",
        help="LRRF weights; default: those shipped for the backbone, if any; none: no LRRF",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the demonstration; returns the exit code 0."""
    from ldip_jax.demo.material import CLIP, prepare
    from ldip_jax.demo.methods import load, results
    from ldip_jax.demo.output import best_method, check_folder, write_results
    from ldip_jax.media.reader import open_clip
    from ldip_jax.weights.fetch import fetch

    began = time.perf_counter()
    check_folder(args.output)
    _announce(args.lrrf)
    upscalers = load(args.lrrf, _print)
    clip = open_clip(fetch(CLIP, progress=_print))
    material = prepare(clip)
    _print(f"\n{'':24}{'PSNR Y':>10}{'SSIM Y':>10}{'time':>12}")
    rows = []
    for row in results(material, upscalers):
        _print(_line(row.method))
        rows.append(row)
    notes = [_PROTOCOL, _TIMES]
    if upscalers.with_stills is None:
        notes.insert(0, _untrained(args.lrrf))
    _print("\n" + "\n".join(textwrap.fill(note, 100) for note in notes))
    write_results(
        args.output,
        material,
        rows,
        fps=clip.fps,
        settings=_settings(args.lrrf, refined=upscalers.with_stills is not None),
        notes=notes,
    )
    _print(_closing(args.output, best_method(rows), time.perf_counter() - began))
    return 0


def _print(line: str) -> None:
    print(line, flush=True)


def _announce(lrrf: str) -> None:
    from ldip_jax.demo.material import CLIP, COUNT, SCALE, SIZE
    from ldip_jax.demo.methods import BACKBONE, is_trained
    from ldip_jax.weights.catalogue import CATALOGUE
    from ldip_jax.weights.fetch import cached

    refined = is_trained(lrrf)
    entries = [CATALOGUE[name] for name in (CLIP, BACKBONE, *["gmflow"] * refined)]
    missing = {entry.source for entry in entries if cached(entry) is None}
    size = sum(source.size for source in missing) / 1e6
    height, width = SIZE
    _print(
        f"This demo reduces {COUNT} frames of a real clip to {width // SCALE}x{height // SCALE} and upscales"
        f" them to {width}x{height} again:\nby bicubic interpolation, by only the backbone, and by LDIP with"
        f" no, 2 and 5 reference stills of the same shot.\nOn 2 CPU cores this takes {_TIME[refined]}"
        f"{f', after {size:.0f} MB of downloads' if missing else '; nothing needs to be downloaded'}."
    )
    for entry in entries:
        _print(f"  {entry.name}: {entry.summary}. Licence: {entry.licence}")


def _line(method: "Method") -> str:
    took = method.note if method.seconds is None else f"{method.seconds:.1f} s"
    return f"{method.name:24}{method.psnr_y:10.4f}{method.ssim_y:10.4f}{took:>12}"


def _untrained(lrrf: str) -> str:
    from ldip_jax.demo.methods import BACKBONE

    reason = "LRRF is left out (--lrrf none)"
    if lrrf == "default":
        reason = f"No LRRF weights are shipped for {BACKBONE} yet"
    return (
        f"{reason}. Without training, LDIP gives exactly the backbone's frames, so its rows repeat the"
        " backbone's scores without being computed."
    )


def _settings(lrrf: str, *, refined: bool) -> list[tuple[str, str]]:
    import os

    import jax

    from ldip_jax.demo.material import CLIP, COUNT, FIRST, SCALE, SIZE, still_frames
    from ldip_jax.demo.methods import BACKBONE
    from ldip_jax.weights.catalogue import CATALOGUE

    height, width = SIZE
    device = jax.devices()[0]
    stills = ", ".join(f"{frame} ({name})" for name, frame in still_frames().items())
    shipped = "as shipped; without stills, the weights for clips without stills"
    weights = {"default": shipped, "none": "none"}.get(lrrf, lrrf) if refined else "none: untrained"
    return [
        ("Clip", f"{CLIP}, frames {FIRST} to {FIRST + COUNT - 1}; {CATALOGUE[CLIP].licence}"),
        ("Original", f"the clip reduced to {width}x{height}"),
        ("Input", f"{width // SCALE}x{height // SCALE}: MATLAB's bicubic of the original, 8 bits"),
        ("Stills", f"frames {stills}; the 2 stills are the nearest; none of them is scored"),
        ("Backbone", f"{BACKBONE}; {CATALOGUE[BACKBONE].licence}"),
        ("LRRF", weights),
        ("Computed on", f"{os.cpu_count()} CPU cores" if device.platform == "cpu" else device.device_kind),
    ]


def _closing(folder: Path, best: "Method", seconds: float) -> str:
    from ldip_jax.demo.output import LOW, PICTURE, REPORT, STILLS, TRUTH, VIDEO

    files = [
        (folder / REPORT, "open it in a browser: before and after, details, key-frames and references"),
        (folder / PICTURE, "side by side, with enlarged details"),
        (folder / VIDEO, f"{best.name}, the best row"),
    ]
    lines = [f"  {path}  {what}" for path, what in files]
    # In a virtual environment that is not active, the command needs its path.
    by_path = Path(sys.argv[0]).stem == "ldip" and not shutil.which("ldip")
    ldip = shlex.quote(sys.argv[0]) if by_path else "ldip"
    low, truth, stills = (shlex.quote(str(folder / name)) for name in (LOW, TRUTH, STILLS))
    mine = shlex.quote(f"{folder}-mine")
    return "\n".join(
        [
            f"\nDone in {seconds / 60:.1f} minutes.",
            *lines,
            "To do the same by hand:",
            f"  {ldip} upscale {low} {mine} --ref {stills}/*.png",
            f"  {ldip} compare {truth} {mine}",
        ]
    )
