"""Memory that the compiler plans for MRefSR's programs, and their times: what one frame costs.

    python benchmarks/mrefsr.py [--size WIDTHxHEIGHT] [--references N ...] [--measure]

"match" extracts features of the upscaled frame and of one reference, and compares all of their patches.
"restore" is everything else, for one frame and N references. Weights are random, in the bands of `ldip
upscale`. The exit code is 1 if "match" needs more memory than --most.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from ldip_jax.runtime import configure

configure()
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from ldip_jax.inference.model import BAND_PIXELS  # noqa: E402
from ldip_jax.models.networks.mrefsr import Extractor, MRefSR, init_restoration  # noqa: E402
from ldip_jax.models.networks.vgg import STEP, VGG  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--size", default="1280x720", metavar="WIDTHxHEIGHT", help="of the output (default: 1280x720)")
    add("--references", type=int, nargs="*", default=[1, 2, 5], metavar="N", help="(default: 1 2 5)")
    add("--most", type=float, default=2.0, metavar="GB", help="bound for match (default: 2)")
    add("--measure", action="store_true", help="also run each program once and show its time")
    return parser.parse_args()


def show(name: str, function: Callable, arrays: tuple, measure: bool) -> float:
    """Prints a program's memory and time; returns the memory in GB."""
    began = time.perf_counter()
    program = jax.jit(function).lower(*arrays).compile()
    compiling = time.perf_counter() - began
    memory = program.memory_analysis()
    arguments, temporary = memory.argument_size_in_bytes / 1e9, memory.temp_size_in_bytes / 1e9
    total = arguments + temporary + memory.output_size_in_bytes / 1e9
    seconds = ""
    if measure:
        began = time.perf_counter()
        jax.block_until_ready(program(*jax.tree.map(jnp.asarray, arrays)))
        seconds = f"{time.perf_counter() - began:8.1f} s"
    print(
        f"{name:22} {total:6.2f} GB, {temporary:.2f} of it temporary; {compiling:.0f} s to compile{seconds}"
    )
    return total


def main() -> int:
    args = arguments()
    width, height = map(int, args.size.split("x"))
    h, w = height // STEP, width // STEP
    band = BAND_PIXELS // STEP**2
    key = jax.random.key(0)
    image = jax.random.uniform(key, (1, STEP * h, STEP * w, 3))
    extractor, vgg, net = Extractor(band), VGG(band), MRefSR(band_pixels=BAND_PIXELS)
    small = jnp.zeros((1, 16, 16, 3))
    stems, features = extractor.init(key, small, small), vgg.init(key, small)
    match = show("match, 1 reference", extractor.apply, (stems, image, image), args.measure)

    def restore(params, features, low, references, offsets):
        maps = jax.lax.map(lambda x: vgg.apply(features, x, method="maps"), references)
        maps = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), maps)
        return net.apply({"params": params}, low, maps, offsets)

    params = init_restoration(net, 0)
    for n in args.references:
        low, offsets = image[:, ::STEP, ::STEP], jnp.zeros((1, n, h, w, 2))
        references = jnp.broadcast_to(image, (n, *image.shape))
        arrays = (params, features, low, references, offsets)
        show(f"restore, {n} reference{'s' * (n != 1)}", restore, arrays, args.measure)
    if match > args.most:
        print(f"match needs {match:.2f} GB, more than {args.most:g} GB")
    return int(match > args.most)


if __name__ == "__main__":
    sys.exit(main())
