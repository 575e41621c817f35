"""Write RESULTS.md: our networks against PyTorch, and how the time of `ldip upscale` grows; with a plot.

    pip install torch
    python benchmarks/results.py                    # half an hour on two CPU cores: benchmarks/RESULTS.md
    python benchmarks/results.py --only growth --output my-results.md

The first part runs `backbone_vs_torch.py` and `training_step.py --torch`: the same weights, inputs and
threads, alternating. The second makes panning clips and runs `ldip upscale --profile` on them, each in a
process of its own; compiling is left out. The plot is written beside FILE.md, to FILE.svg. With `--only`, the
other part stays as it is in FILE.md. The exit code is 1 if a run fails.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.memory_lengths import make_clip, scene
from ldip_jax.atomic import atomic_open

ROOT = Path(__file__).parents[1]
# Parts and their headings.
PARTS = {"torch": "## Against PyTorch", "growth": "## How time grows"}
# What is run against PyTorch: the heading, and the arguments of the command.
AGAINST_TORCH = (
    ("BasicVSR", "backbone_vs_torch.py"),
    ("BasicVSR++", "backbone_vs_torch.py --weights random --network basicvsrpp --sizes 64x64 180x144"),
    ("IART", "backbone_vs_torch.py --weights random --network iart --sizes 64x64 --rounds 3"),
    ("GMFlow, SPyNet", "parts_vs_torch.py --only gmflow spynet"),
    ("LRRF, of key-frames of 360x288", "parts_vs_torch.py --only fusion lrrf --size 90x72"),
    ("A training step of LRRF", "training_step.py --torch"),
)


class Run(NamedTuple):
    """One run of `ldip upscale`: input frames of `width` x `height`; the number of stills; the stride."""

    frames: int = 12
    width: int = 80
    height: int = 45
    stills: int = 2
    stride: int = 8


# What time grows with: the axis, its values as text, and the runs.
GROWTH = {
    "frames": [(str(n), Run(frames=n)) for n in (12, 24, 48)],
    "size of the output": [
        (f"{4 * w}x{4 * h}", Run(width=w, height=h)) for w, h in ((40, 24), (80, 45), (160, 90))
    ],
    "stills": [(str(n), Run(stills=n)) for n in (0, 1, 2, 4, 8)],
    "frames from key-frame to key-frame": [(str(n), Run(stride=n)) for n in (4, 8, 16)],
}
SHOWN = ("matching", "fusion", "carry", "features", "decoder")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, default=ROOT / "benchmarks" / "RESULTS.md", metavar="FILE.md")
    add("--only", choices=PARTS, help="measure one part (default: both)")
    return parser.parse_args()


def machine() -> str:
    """What the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).is_file():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        fields = {name.strip(): value.strip() for name, value in fields.items()}
        widest = [name for name in ("avx512f", "avx2", "avx") if name in fields.get("flags", "").split()]
        cpu = f"{fields.get('model name', cpu)}, {(widest or ['no AVX'])[0]}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = []
    for name in ("jax", "flax", "torch"):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return f"{cpu}, {cores} cores; {', '.join(versions)}; commit {commit or 'unknown'}."


def against_torch() -> tuple[list[str], bool]:
    """Lines of Markdown, and whether everything ran."""
    lines, fine = [PARTS["torch"], "", machine(), ""], True
    lines += ["Ratios are time here / time in PyTorch: below 1, JAX is faster.", ""]
    for heading, words in AGAINST_TORCH:
        print(f"{heading} ...", file=sys.stderr, flush=True)
        script, *options = words.split()
        command = [sys.executable, str(ROOT / "benchmarks" / script), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        fine &= done.returncode == 0
        text = done.stdout if done.returncode == 0 else done.stderr.strip().splitlines()[-1]
        lines += [f"### {heading}", "", f"`python benchmarks/{words}`", "", "```", text.strip(), "```", ""]
    return lines, fine


def profiled(run: Run, folder: Path) -> dict[str, float] | None:
    """Seconds a frame of one run by part, without compiling, in an empty folder; None if it fails."""
    picture = scene(run.height, run.width)
    clip = make_clip(folder / "clip.mkv", picture, run.frames, run.height, run.width)
    command = [sys.executable, "-m", "ldip_jax.cli.main", "upscale", str(clip), str(folder / "out.mkv")]
    command += [
        "--overwrite",
        "--quiet",
        "--key-stride",
        str(run.stride),
        "--profile",
        str(folder / "p.json"),
    ]
    stills = []
    for number in range(run.stills):
        first = 4 * number * run.width // max(run.stills, 1)
        still = picture[:, first : first + 4 * run.width]
        path = folder / f"still{number}.png"
        Image.fromarray(np.round(255 * still).astype(np.uint8)).save(path)
        stills.append(str(path))
    # Stills of a soft picture add no detail, but are used anyway so that their time is measured.
    command += ["--ref", *stills, "--ref-threshold", "0", "--refs-as-given"] if stills else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        return None
    found = json.loads((folder / "p.json").read_text())
    seconds = {name: part["seconds"] / run.frames for name, part in found["parts"].items()}
    return {**seconds, "all": found["seconds"] / run.frames - seconds["compile"]}


def growth(folder: Path) -> tuple[list[str], dict[str, list[tuple[str, float]]], bool]:
    """Lines of Markdown, seconds a frame by axis and value for the plot, and whether everything ran."""
    lines = [PARTS["growth"], "", machine(), ""]
    base = Run()
    lines += [
        "Seconds a frame of `ldip upscale` with the default weights, without compiling: "
        f"{base.frames} frames to {4 * base.width}x{4 * base.height}, {base.stills} stills, a key-frame "
        f"every {base.stride} frames; each table varies one of these.",
        "",
    ]
    known: dict[Run, dict[str, float] | None] = {}
    plotted: dict[str, list[tuple[str, float]]] = {}
    for axis, runs in GROWTH.items():
        lines += [f"| {axis} | seconds a frame | {' | '.join(SHOWN)} |", "|---" * (2 + len(SHOWN)) + "|"]
        for text, run in runs:
            if run not in known:
                print(f"{axis}: {text} ...", file=sys.stderr, flush=True)
                known[run] = profiled(run, Path(tempfile.mkdtemp(dir=folder)))
            found = known[run]
            if found is None:
                lines.append(f"| {text} | failed |" + " |" * len(SHOWN))
                continue
            plotted.setdefault(axis, []).append((text, found["all"]))
            cells = " | ".join(f"{found.get(name, 0.0):.2f}" for name in SHOWN)
            lines.append(f"| {text} | {found['all']:.2f} | {cells} |")
        lines.append("")
    return lines, plotted, None not in known.values()


def plot(plotted: dict[str, list[tuple[str, float]]]) -> str:
    """An SVG with bars for each axis, all to the same scale."""
    width, height, gap, bar = 220, 200, 40, 28
    highest = max(value for rows in plotted.values() for _, value in rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {len(plotted) * width} {height + 60}"'
        ' font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
    ]
    for panel, (axis, rows) in enumerate(plotted.items()):
        left = panel * width
        parts.append(f'<text x="{left + 10}" y="18" font-weight="bold">{axis}</text>')
        for place, (text, value) in enumerate(rows):
            x, tall = left + 14 + place * (bar + 12), (height - gap) * value / highest
            y = height - tall
            parts.append(f'<rect x="{x}" y="{y:.1f}" width="{bar}" height="{tall:.1f}" fill="#3a6ea5"/>')
            parts.append(f'<text x="{x + bar / 2}" y="{y - 4:.1f}" text-anchor="middle">{value:.1f}</text>')
            turned = f'transform="rotate(-30 {x + bar / 2} {height + 14})"'
            parts.append(
                f'<text x="{x + bar / 2}" y="{height + 14}" text-anchor="end" {turned}>{text}</text>'
            )
    return "\n".join([*parts, "</svg>", ""])


def part_of(text: str, heading: str) -> list[str]:
    """The lines of a Markdown text from a heading to the next one of the same level."""
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    return [
        line for part in parts if part.startswith(heading) for line in part.removesuffix("\n").split("\n")
    ]


def main() -> int:
    args = arguments()
    known = args.output.read_text() if args.only and args.output.exists() else ""
    lines, fine = ["# Results", "", "Written by `python benchmarks/results.py`.", ""], True
    if args.only == "growth":
        lines += part_of(known, PARTS["torch"])
    else:
        more, ran = against_torch()
        lines, fine = lines + more, fine and ran
    if args.only == "torch":
        lines += part_of(known, PARTS["growth"])
    else:
        with tempfile.TemporaryDirectory() as folder:
            more, plotted, ran = growth(Path(folder))
        picture = args.output.with_suffix(".svg")
        if plotted:
            with atomic_open(picture) as file:
                file.write(plot(plotted).encode())
            more[4:4] = [f"![Seconds a frame by frames, size, stills and stride]({picture.name})", ""]
        lines, fine = lines + more, fine and ran
    with atomic_open(args.output) as file:
        file.write(("\n".join(lines).rstrip("\n") + "\n").encode())
    print(args.output)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
