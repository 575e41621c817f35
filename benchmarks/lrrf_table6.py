"""Time and peak memory of LRRF by size and number of references, beside the paper's Table 6.

    python benchmarks/lrrf_table6.py            # up to 2560x1440: for a GPU; slow on a CPU
    python benchmarks/lrrf_table6.py --small    # a quarter of each side

A key-frame passes through Ref-Align and Ref-Fusion with n references as large as the output, and a frame
passes through both passes of HRIP, with the programs of `ldip upscale`, in float32. Matching and optical flow
are not included. Each case runs in its own process: once to compile, then --repeat times. Peak memory is what
the device reports (GPUs), otherwise the growth of the process's resident memory.
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
# Seconds and GB on an RTX A6000 with 2, 4 and 8 references, by width (paper, Table 6).
PAPER = {
    640: ((0.2, 1.0), (0.3, 1.6), (0.6, 2.8)),
    1280: ((0.7, 3.6), (1.1, 5.8), (1.9, 10.7)),
    1920: ((1.5, 8.0), (2.4, 12.9), (4.2, 23.8)),
    2560: ((2.6, 14.1), (4.3, 22.8), (7.5, 42.2)),
}


def paper(width: int, n: int) -> str:
    """The paper's cell; with `--small` a sixteenth of that for four times the side, with an asterisk."""
    small = width not in PAPER
    seconds, memory = PAPER[4 * width if small else width][REFERENCES.index(n)]
    if small:
        return f"{seconds / 16:6.2f} s {memory / 16:6.2f} GB*"
    return f"{seconds:6.1f} s {memory:6.1f} GB "


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--small", action="store_true", help="a quarter of each side, for CPUs")
    add("--repeat", type=int, default=3, metavar="N", help="timed runs; the median is shown (default: 3)")
    add("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


def resident() -> float:
    """The peak resident memory of this process so far, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run_case(width: int, height: int, n: int, repeat: int) -> dict[str, float | str]:
    """Measure one cell in this process."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from ldip_jax.runtime import configure

    configure()
    import jax
    import jax.numpy as jnp

    from ldip_jax.inference.engine import refine
    from ldip_jax.inference.model import BAND_PIXELS
    from ldip_jax.inference.programs import Programs
    from ldip_jax.models.ldip import LDIP
    from ldip_jax.models.lrrf import LRRF, init_lrrf
    from ldip_jax.models.networks.basicvsr import BasicVSR
    from ldip_jax.models.ref_align import Reference
    from ldip_jax.models.trainable import initialise
    from ldip_jax.ops.warp import pixel_grid

    lrrf = LRRF(band_pixels=BAND_PIXELS)
    params = initialise(partial(init_lrrf, lrrf), jax.random.key(0))
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
            print(f"{width:5d}x{height:<4d} {n:11d} {times} {memory} {paper(width, n)}", flush=True)
    print("\n* a sixteenth of the paper's cell for four times the side")


if __name__ == "__main__":
    main()
