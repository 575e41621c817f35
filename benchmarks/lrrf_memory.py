"""Memory that the compiler plans for LRRF's programs, by number of references.

    python benchmarks/lrrf_memory.py

There are two programs, in float32, for one frame at a time, in the bands of `ldip upscale`. The first is
Ref-Align and Ref-Fusion of a key-frame: from HR features, n reference images as large as the output, and n
warps to refined features. The second is one step of HRIP. The figures come from `compiled.memory_analysis()`;
programs are run only with --measure.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from ldip_jax.runtime import configure

configure()
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from ldip_jax.inference.model import BAND_PIXELS  # noqa: E402
from ldip_jax.models.lrrf import LRRF, init_lrrf  # noqa: E402
from ldip_jax.models.ref_align import Reference  # noqa: E402
from ldip_jax.ops.warp import pixel_grid  # noqa: E402

MB = 1e6


class Case(NamedTuple):
    """A program's name, its method, the method's leading constants, and its arrays."""

    name: str
    method: str
    constants: tuple
    arrays: Callable[[], tuple]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--size", default="1280x720", metavar="WIDTHxHEIGHT", help="of the output (default: 1280x720)")
    add("--references", type=int, nargs="+", default=[2, 4, 8], metavar="N", help="(default: 2 4 8)")
    add(
        "--band",
        type=int,
        default=BAND_PIXELS,
        help=f"pixels per band of rows, 0 for whole frames (default: {BAND_PIXELS})",
    )
    add("--measure", action="store_true", help="also run each program twice and show the second run's time")
    return parser.parse_args()


def references(n: int, h: int, w: int) -> Reference:
    """Images as large as the output; each pixel is matched a few pixels away."""
    keys = jax.random.split(jax.random.key(0), 3)
    warp = pixel_grid(h, w) + 3.0 * jax.random.normal(keys[1], (1, n, h, w, 2))
    return Reference(
        jax.random.uniform(keys[0], (1, n, h, w, 3)),
        jnp.broadcast_to(jnp.array([h, w]), (1, n, 2)),
        warp,
        jax.random.uniform(keys[2], (1, n, h, w, 1)),
        jnp.ones((1, n)),
    )


def cases(h: int, w: int, counts: list[int]) -> list[Case]:
    def hr(seed: int) -> jax.Array:
        return jax.random.normal(jax.random.key(seed), (1, h, w, 64))

    def step() -> tuple:
        return hr(0), hr(1), jax.random.normal(jax.random.key(2), (1, h, w, 2))

    fused = [Case(f"{n} references", "refine", (), lambda n=n: (hr(0), references(n, h, w))) for n in counts]
    return [*fused, Case("HRIP step", "propagate", (True,), step)]


def main() -> None:
    args = arguments()
    width, height = map(int, args.size.split("x"))
    lrrf = LRRF(band_pixels=args.band or None)

    def init() -> dict:
        return init_lrrf(lrrf, jax.random.key(0))

    band = f"bands of {args.band} pixels" if args.band else "whole frames"
    print(f"jax {jax.__version__} on {jax.default_backend()}; {width}x{height}, float32, {band}; MB\n")
    print("                arguments    output  temporary       sum" + "    wall s     cpu s" * args.measure)
    sums = {}
    for case in cases(height, width, args.references):

        def run(params, *arrays, case=case):
            return lrrf.apply({"params": params}, *case.constants, *arrays, method=case.method)

        compiled = jax.jit(run).lower(jax.eval_shape(init), *jax.eval_shape(case.arrays)).compile()
        memory = compiled.memory_analysis()
        sizes = (memory.argument_size_in_bytes, memory.output_size_in_bytes, memory.temp_size_in_bytes)
        sums[case.name] = sum(sizes)
        line = f"{case.name:15s} " + " ".join(f"{size / MB:9.1f}" for size in (*sizes, sum(sizes)))
        if args.measure:
            arrays = (jax.jit(init)(), *jax.jit(case.arrays)())
            jax.block_until_ready(compiled(*arrays))
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(compiled(*arrays))
            line += f" {time.perf_counter() - wall:9.2f} {time.process_time() - cpu:9.2f}"
        print(line, flush=True)
    first, last = min(args.references), max(args.references)
    if first < last:
        growth = (sums[f"{last} references"] - sums[f"{first} references"]) / (last - first)
        one = jax.eval_shape(lambda: references(1, height, width))
        single = sum(leaf.size * leaf.dtype.itemsize for leaf in one)
        print(f"\neach further reference {growth / MB:.1f}; its image, warp and confidence {single / MB:.1f}")


if __name__ == "__main__":
    main()
