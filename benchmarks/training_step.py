"""Time and memory of one training step of LRRF on features and flows of a frozen backbone.

    python benchmarks/training_step.py

One clip: Ref-Fusion of its key-frames, HRIP over all frames, L1 on the features, AdamW. Memory is what the
compiler plans, `compiled.memory_analysis()`. "cpu" is the time on all cores together, which other programs on
the machine disturb less than "wall". The first step is left out.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from ldip_jax.runtime import configure

configure()
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402

from ldip_jax.models.backbone.basicvsr import BasicVSR  # noqa: E402
from ldip_jax.models.backbone.propagation import Flows  # noqa: E402
from ldip_jax.models.ldip import LDIP, KeyFrames  # noqa: E402
from ldip_jax.models.lrrf import LRRF, init_lrrf  # noqa: E402
from ldip_jax.models.ref_align import Reference  # noqa: E402
from ldip_jax.ops.warp import pixel_grid  # noqa: E402

MB = 1e6


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--size", default="128x128", metavar="WIDTHxHEIGHT", help="of the output (default: 128x128)")
    add("--frames", type=int, default=5, help="(default: 5)")
    add("--keys", type=int, default=1, help="key-frames (default: 1)")
    add("--references", type=int, default=3, help="of each key-frame, as large as the output (default: 3)")
    add("--bands", type=int, nargs="+", default=[2048], metavar="PIXELS", help="0 for whole frames")
    add("--remat-frames", action="store_true", help="see LDIP.remat_frames")
    add("--dtype", default="float32", choices=("float32", "bfloat16"), help="of the computation")
    add("--steps", type=int, default=3, help="measured steps, 0 to compile alone (default: 3)")
    return parser.parse_args()


def batch(args: argparse.Namespace, key: jax.Array) -> tuple:
    """HR features, key-frames, flows of about a pixel, and the features to come near to."""
    width, height = map(int, args.size.split("x"))
    keys = jax.random.split(key, 6)
    stack = (1, args.keys, args.references)
    hr = jax.random.normal(keys[0], (1, args.frames, height, width, 64)).astype(args.dtype)
    warp = pixel_grid(height, width) + 3.0 * jax.random.normal(keys[1], (*stack, height, width, 2))
    references = Reference(
        jax.random.uniform(keys[2], (*stack, height, width, 3)),
        jnp.broadcast_to(jnp.array([height, width]), (*stack, 2)),
        warp,
        jax.random.uniform(keys[3], (*stack, height, width, 1)),
        jnp.ones(stack),
    )
    index = jnp.round(jnp.linspace(0, args.frames - 1, args.keys)).astype(jnp.int32)[None]
    lr = (2, 1, args.frames, height // 4, width // 4, 2)
    flows = Flows(*jax.random.normal(keys[4], lr))
    target = hr + 0.1 * jax.random.normal(keys[5], hr.shape).astype(args.dtype)
    return hr, KeyFrames(index, jnp.ones(index.shape), references), flows, target


def main() -> None:
    args = arguments()
    print(f"jax {jax.__version__} on {jax.default_backend()}; {args.frames} frames of {args.size},", end=" ")
    print(f"{args.keys} key-frames with {args.references} references, {args.dtype}\n")
    print("bands   compile s  temporary MB    wall s    cpu s      loss")
    optimizer = optax.adamw(2e-4, weight_decay=0.01)
    for bands in args.bands:
        lrrf = LRRF(band_pixels=bands or None)
        net = LDIP(BasicVSR(), lrrf, remat_frames=args.remat_frames)

        def loss(params, hr, keys, flows, target, net=net):
            variables = {"params": {"lrrf": params}}
            hr = net.apply(variables, hr, keys, method="refine")
            hr = net.apply(variables, hr, flows, method="propagate")
            return jnp.mean(jnp.abs((hr - target).astype(jnp.float32)))

        def step(params, moments, *data, loss=loss):
            value, grads = jax.value_and_grad(loss)(params, *data)
            updates, moments = optimizer.update(grads, moments, params)
            return optax.apply_updates(params, updates), moments, value

        params = jax.jit(lambda key, lrrf=lrrf: init_lrrf(lrrf, key))(jax.random.key(0))
        moments = jax.jit(optimizer.init)(params)
        data = jax.jit(lambda key: batch(args, key))(jax.random.key(1))
        start = time.perf_counter()
        compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, moments, *data).compile()
        took = time.perf_counter() - start
        line = f"{bands:5d} {took:11.1f} {compiled.memory_analysis().temp_size_in_bytes / MB:13.0f}"
        times, value = [], jnp.nan
        for _ in range(args.steps + 1 if args.steps else 0):
            wall, cpu = time.perf_counter(), time.process_time()
            params, moments, value = jax.block_until_ready(compiled(params, moments, *data))
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
        if times:
            walls, cpus = zip(*times[1:], strict=True)
            line += f" {statistics.median(walls):9.2f} {statistics.median(cpus):8.2f} {float(value):9.6f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
