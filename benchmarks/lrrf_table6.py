"""Time and peak memory of LRRF by size and number of references, beside the paper's Table 6.

    python benchmarks/lrrf_table6.py            # a GPU, or a CPU with time: up to 2560x1440
    python benchmarks/lrrf_table6.py --small    # a quarter of each side

A key-frame goes through Ref-Align and Ref-Fusion with n references as large as the output, and a frame
through both passes of HRIP, with the programs of `ldip upscale`, float32. Matching and optical flow are not
part of it. Each case runs in a process of its own: once to compile, then --repeat times. Peak memory is the
device's own account where it keeps one (GPUs), else the growth of the process's resident memory.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

SIZES = ((640, 360), (1280, 720), (1920, 1080), (2560, 1440))
REFERENCES = (2, 4, 8)
# (width, references) -> seconds, GB on an A6000. Cells that are not at hand follow from the paper's by least
# squares: 0.278 + 0.220 n seconds and 1.21 + 1.28 n GB for each million pixels.
PAPER = {
    (640, 2): (0.2, 1.0),
    (1280, 2): (0.7, 3.6),
    (1280, 4): (1.1, 5.8),
    (1280, 8): (1.9, 10.7),
    (2560, 8): (7.5, 42.2),
}


def paper(width: int, height: int, n: int) -> str:
    """The paper's cell, or the fit through its cells, marked as such."""
    if (width, n) in PAPER:
        seconds, memory = PAPER[width, n]
        return f"{seconds:6.1f} s {memory:6.1f} GB "
    pixels = width * height / 1e6
    return f"{pixels * (0.278 + 0.220 * n):6.1f} s {pixels * (1.21 + 1.28 * n):6.1f} GB*"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--small", action="store_true", help="sizes of a quarter on each side, for CPUs")
    add("--repeat", type=int, default=3, metavar="N", help="timed runs; the median is shown (default: 3)")
    add("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


def resident() -> float:
    """The most memory that this process has held so far, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run_case(width: int, height: int, n: int, repeat: int) -> dict[str, float | str]:
    """One cell, in this process."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from ldip_jax.runtime import configure

    configure()
    import jax
    import jax.numpy as jnp

    from ldip_jax.inference.engine import refine
    from ldip_jax.inference.model import BAND_PIXELS
    from ldip_jax.inference.programs import Programs
    from ldip_jax.models.assemble import draw
    from ldip_jax.models.backbone.basicvsr import BasicVSR
    from ldip_jax.models.ldip import LDIP
    from ldip_jax.models.lrrf import LRRF, init_lrrf
    from ldip_jax.models.ref_align import Reference
    from ldip_jax.ops.warp import pixel_grid

    lrrf = LRRF(band_pixels=BAND_PIXELS)
    params = draw(partial(init_lrrf, lrrf), jax.random.key(0))
    programs = Programs(LDIP(BasicVSR(), lrrf), {"lrrf": params})
    before = resident()

    @jax.jit
    def reference(seed: int) -> Reference:
        keys = jax.random.split(jax.random.key(seed), 3)
        return Reference(
            jax.random.uniform(keys[0], (1, height, width, 3)),
            jnp.array([[height, width]], jnp.int32),
            pixel_grid(height, width)[None] + 3.0 * jax.random.normal(keys[1], (1, height, width, 2)),
            jax.random.uniform(keys[2], (1, height, width, 1)),
            jnp.ones((1,)),
        )

    hr = jax.random.normal(jax.random.key(1), (1, height, width, 64))
    flow = jax.random.normal(jax.random.key(2), (1, height // 4, width // 4, 2))
    references = [reference(seed) for seed in range(n)]

    def key_frame() -> None:
        jax.block_until_ready(refine(programs, hr, references))

    def propagate() -> None:
        for reverse in (True, False):
            jax.block_until_ready(programs.propagate(reverse, hr, hr, flow))

    cell: dict[str, float | str] = {"device": jax.devices()[0].device_kind}
    for name, part in (("fusion", key_frame), ("hrip", propagate)):
        part()
        times = []
        for _ in range(repeat):
            began = time.perf_counter()
            part()
            times.append(time.perf_counter() - began)
        cell[name] = statistics.median(times)
    stats = jax.devices()[0].memory_stats() or {}
    cell["memory"] = stats.get("peak_bytes_in_use") or resident() - before
    cell["account"] = "the device's" if "peak_bytes_in_use" in stats else "the process's"
    return cell


def main() -> None:
    args = arguments()
    if args.case:
        print(json.dumps(run_case(*map(int, args.case.split("x")), args.repeat)))
        return
    sizes = [(w // 4, h // 4) for w, h in SIZES] if args.small else SIZES
    began = False
    for width, height in sizes:
        for n in REFERENCES:
            words = [
                sys.executable,
                __file__,
                "--repeat",
                str(args.repeat),
                "--case",
                f"{width}x{height}x{n}",
            ]
            done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                print(f"{width}x{height} with {n} references failed: the device's memory may be too small")
                continue
            cell = json.loads(done.stdout)
            if not began:
                print(f"{cell['device']}, float32; memory by {cell['account']} account\n")
                print("      size  references   Ref-Fusion      HRIP       both    memory      paper, A6000")
                began = True
            both = cell["fusion"] + cell["hrip"]
            times = f"{cell['fusion']:10.2f} s {cell['hrip']:7.2f} s {both:8.2f} s"
            memory = f"{cell['memory'] / 1e9:6.2f} GB"
            print(f"{width:5d}x{height:<4d} {n:11d} {times} {memory} {paper(width, height, n)}", flush=True)
    print("\n* no cell of the table: least squares through its cells")


if __name__ == "__main__":
    main()
