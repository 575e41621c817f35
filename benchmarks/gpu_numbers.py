"""Measure the programs of inference and training on a GPU, in about ten minutes, as a Markdown table.

    python benchmarks/gpu_numbers.py --output numbers.md

Needs jax with CUDA and one GPU, but no weights and no data: parameters and frames are zeros, since neither
changes the time. Every cell runs in a process of its own, the most important ones first. Whatever does not
fit into --minutes is "not measured", and so is everything without a GPU. The table can be pasted into a
report. `--debug` measures a few tiny programs, also on a CPU, to try the script.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.lrrf_table6 import PAPER, REFERENCES, SIZES, run_case

NOT = "not measured"
REPEAT = 5
CONFIGS = {
    "ldip_basicvsrpp_x4": "1.51 s, 2 samples on two RTX 4090",
    "ldip_iart_x4": "2.09 s, 4 samples on four RTX 4090",
    "ldip_basicvsr_x4": "",
    "ldip_basicvsrpp_as": "",
    "as_basicvsrpp": "",
    "ldip_basicvsr_as": "",
    "as_basicvsr": "",
    "ldip_iart_as": "",
    "as_iart": "",
}
PRECISIONS = {"float32": "highest", "TF32": "tensorfloat32", "bfloat16": "bfloat16"}


class Row(NamedTuple):
    """A line of the table: its section, what is measured, the paper's figure, and its process's arguments."""

    section: str
    what: str
    paper: str
    arguments: tuple[str, ...]


def rows(debug: bool) -> Iterator[Row]:
    """All rows, the most important ones first within each section."""
    section = "LRRF, a frame (paper: Table 6, RTX A6000)"
    sizes = ((64, 36),) if debug else (*SIZES, (3840, 2160))
    for width, height in sizes:
        for place, n in enumerate(REFERENCES[: 1 if width > 2560 or debug else 3]):
            cell = PAPER[width][place] if width in PAPER else None
            paper = f"{cell[0]} s, {cell[1]} GB" if cell else ""
            yield Row(
                section, f"{width}x{height}, {n} references", paper, ("lrrf", f"{width}", f"{height}", f"{n}")
            )
    section = "Training, a step of one sample (the largest)"
    for name, paper in CONFIGS.items():
        if not debug or name == "as_basicvsr":
            yield Row(section, f"`{name}`", paper, ("step", name, "debug" if debug else ""))
    if debug:
        return
    section = "Frozen networks of a sample of live training"
    for name in ("see-ldip_basicvsrpp_x4", "see-ldip_iart_x4", "see-ldip_basicvsr_x4", "match", "refine"):
        yield Row(section, f"`{name}`", "", ("program", name, "TF32"))
    section = "Backbones, two frames of 320x180"
    for name in ("basicvsrpp", "iart", "basicvsr"):
        for precision in PRECISIONS:
            yield Row(section, f"{name}, {precision}", "", ("program", f"backbone-{name}", precision))


def measure(arguments: list[str], repeat: int) -> dict[str, Any]:
    """Seconds (median), memory in bytes and the device, of one measurement, in this process."""
    kind, *rest = arguments
    if kind == "lrrf":
        width, height, n = map(int, rest)
        cell = run_case(width, height, n, repeat)
        seconds = float(cell["fusion"]) + float(cell["hrip"])
        return {"device": cell["device"], "seconds": seconds, "memory": float(cell["memory"])}
    from ldip_jax.runtime import configure

    configure()
    import jax
    import numpy as np
    from jax.sharding import Mesh

    from benchmarks import programs

    mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "space"))
    precision = "default"
    if kind == "step":
        run, shapes = programs.step(rest[0], mesh, arg=rest[1])
    else:
        precision = PRECISIONS[rest[1]]
        run, shapes = programs.PROGRAMS[rest[0]].make(mesh)
    times = []
    with jax.default_matmul_precision(precision):
        for _ in range(repeat + 1):
            # A step reuses the memory of its state, so each run needs its own arrays.
            arrays = jax.tree.map(_zeros, shapes)
            jax.block_until_ready(arrays)
            began = time.perf_counter()
            jax.block_until_ready(run(*arrays))
            times.append(time.perf_counter() - began)
    device = jax.devices()[0]
    memory = (device.memory_stats() or {}).get("peak_bytes_in_use", 0)
    return {"device": device.device_kind, "seconds": statistics.median(times[1:]), "memory": float(memory)}


def _zeros(shape: Any) -> Any:
    import jax
    import numpy as np

    return jax.device_put(np.zeros(shape.shape, shape.dtype), shape.sharding)


def table(found: list[tuple[Row, dict[str, Any] | None]], version: str) -> str:
    """The Markdown table; a row without a result is not measured."""
    device = next((cell["device"] for _, cell in found if cell), "no GPU")
    lines = [f"Measured on: {device}, jax {version}; float32 with JAX's default precision unless stated.\n"]
    section = ""
    for row, cell in found:
        if row.section != section:
            section = row.section
            lines += [f"\n| {section} | seconds | GB | paper |", "|---|---|---|---|"]
        seconds = f"{cell['seconds']:.3g}" if cell else NOT
        memory = f"{cell['memory'] / 1e9:.2f}" if cell and cell["memory"] else NOT
        lines.append(f"| {row.what} | {seconds} | {memory} | {row.paper} |")
    return "\n".join(lines) + "\n"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, metavar="FILE", help="also write the table to this file")
    add("--minutes", type=float, default=10.0, metavar="N", help="stop after this long (default: 10)")
    add("--debug", action="store_true", help="tiny programs, on any device")
    add("--measure", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def has_gpu() -> bool:
    words = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip() == "gpu"


def in_process(row: Row, seconds: float) -> dict[str, Any] | None:
    """A row's result from a process of its own; None if it fails or takes too long."""
    words = [sys.executable, __file__, "--measure", *row.arguments]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    if args.measure:
        print(json.dumps(measure(args.measure, REPEAT)))
        return 0
    from importlib import metadata

    until = time.monotonic() + 60.0 * args.minutes
    able = args.debug or has_gpu()
    found: list[tuple[Row, dict[str, Any] | None]] = []
    for row in rows(args.debug):
        left = until - time.monotonic()
        cell = in_process(row, left) if able and left > 1.0 else None
        found.append((row, cell))
        if able:
            print(f"{row.what}: {cell['seconds']:.3g} s" if cell else f"{row.what}: {NOT}", file=sys.stderr)
    text = table(found, metadata.version("jax"))
    print(text)
    if args.output:
        args.output.write_text(text)
    return 0 if all(cell for _, cell in found) else 1


if __name__ == "__main__":
    sys.exit(main())
