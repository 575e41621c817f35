"""Memory that the compiler plans for a backbone's programs, frame by frame as in `ldip upscale`.

    python benchmarks/backbone_memory.py
    python benchmarks/backbone_memory.py --network basicvsr --size 640x360

No program is run. The figures come from `compiled.memory_analysis()`, in float32, for the published size of
the network.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from ldip_jax.runtime import configure

configure()
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from ldip_jax.inference.model import BAND_PIXELS  # noqa: E402
from ldip_jax.models.networks import BACKBONES  # noqa: E402
from ldip_jax.models.networks.backbone import Branch  # noqa: E402

MB = 1e6


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--network", choices=sorted(BACKBONES), default="basicvsrpp", help="(default: basicvsrpp)")
    add("--size", default="320x180", metavar="WIDTHxHEIGHT", help="of the frames (default: 320x180)")
    add(
        "--band",
        type=int,
        default=BAND_PIXELS,
        help=f"pixels per band of rows, 0 for whole frames (default: {BAND_PIXELS})",
    )
    return parser.parse_args()


def main() -> None:
    args = arguments()
    width, height = map(int, args.size.split("x"))
    net = BACKBONES[args.network](band_pixels=args.band or None)
    frame = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 2, 32, 32, 3), jnp.float32))

    def bound(method: str, branch: Branch | None):
        """The method as a function of only arrays."""
        leading = (branch,) if branch else ()
        return lambda params, *inputs: net.apply(params, *leading, *inputs, method=method)

    def shapes(method: str, *inputs, branch: Branch | None = None):
        return jax.eval_shape(bound(method, branch), params, *inputs)

    band = f"bands of {args.band} pixels" if args.band else "whole frames"
    print(f"jax {jax.__version__} on {jax.default_backend()}; {args.network}, {args.size}, {band}; MB\n")
    print("program          arguments    output  temporary       sum")

    def show(name: str, method: str, *inputs, branch: Branch | None = None) -> None:
        memory = jax.jit(bound(method, branch)).lower(params, *inputs).compile().memory_analysis()
        sizes = (memory.argument_size_in_bytes, memory.output_size_in_bytes, memory.temp_size_in_bytes)
        print(f"{name:16s} " + " ".join(f"{size / MB:9.1f}" for size in (*sizes, sum(sizes))), flush=True)

    show("flow", "flow", frame, frame)
    show("encode", "encode", frame)
    flow, carry = shapes("flow", frame, frame), shapes("carry", frame)
    kept = (shapes("encode", frame),)
    for branch in net.branches:
        show(branch.name, "step", carry, kept, flow, branch=branch)
        kept = net.keep(kept, shapes("step", carry, kept, flow, branch=branch)[1])
    show("reconstruct", "reconstruct", kept)
    features = shapes("reconstruct", kept)
    show("upscale", "upscale", features)
    show("decode", "decode", shapes("upscale", features), frame)


if __name__ == "__main__":
    main()
