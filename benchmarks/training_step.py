"""Time and memory of one training step of LRRF, on features and flows of a frozen backbone.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --torch

A step trains on one clip: Ref-Fusion of its key-frames, HRIP over all frames, L1 on the features, AdamW.
Memory is what the compiler plans, from `compiled.memory_analysis()`. "cpu" is CPU time on all cores together;
other programs on the machine affect it less than "wall". The first step is not measured.

`--torch` alternates with the same steps in PyTorch: whole frames, channels last, the same parameters, data,
optimizer and threads. The losses of the last step are shown for both.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from ldip_jax.runtime import configure

configure()
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402

from ldip_jax.models.ldip import LDIP, KeyFrames  # noqa: E402
from ldip_jax.models.lrrf import LRRF, init_lrrf  # noqa: E402
from ldip_jax.models.networks.backbone import Flows  # noqa: E402
from ldip_jax.models.networks.basicvsr import BasicVSR  # noqa: E402
from ldip_jax.models.ref_align import Reference  # noqa: E402
from ldip_jax.models.trainable import initialise  # noqa: E402
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
    add("--torch", action="store_true", help="compare with PyTorch, in float32; needs torch")
    add("--threads", type=int, help="cores for both (Linux; default: all)")
    add("--steps", type=int, default=3, help="measured steps; 0: only compile (default: 3)")
    return parser.parse_args()


def batch(args: argparse.Namespace, key: jax.Array) -> tuple:
    """HR features, key-frames, flows of about one pixel, and the target features."""
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


def torch_step(
    params: Any, hr: jax.Array, key_frames: KeyFrames, flows: Flows, target: jax.Array
) -> Callable:
    """A function that runs one step in PyTorch and returns the loss before it."""
    import torch

    from tests.parity import torch_lrrf as twins

    torch.set_num_threads(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    net = twins.LRRF()
    twins.load(net, params)
    net = net.to(memory_format=torch.channels_last)
    data, wanted = twins.inputs(hr, key_frames, flows), twins.channels_first(target[0])
    optimizer = torch.optim.AdamW(net.parameters(), 2e-4, weight_decay=0.01)

    def step() -> float:
        optimizer.zero_grad()
        loss = (net(*data) - wanted).abs().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def measure(run: Callable) -> tuple[float, float, Any]:
    """Elapsed time and CPU time in seconds, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def report(rounds: list[tuple[float, float, Any]]) -> str:
    """Medians without the first round, and the last loss."""
    walls, cpus, losses = zip(*rounds, strict=True)
    return f" {statistics.median(walls[1:]):9.2f} {statistics.median(cpus[1:]):8.2f} {float(losses[-1]):9.6f}"


def main() -> None:
    args = arguments()
    if args.threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    # Waiting threads of one side must not take the cores from the other.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    print(f"jax {jax.__version__} on {jax.default_backend()}; {args.frames} frames of {args.size},", end=" ")
    print(f"{args.keys} key-frames with {args.references} references, {args.dtype}\n")
    print("bands   compile s  temporary MB    wall s    cpu s      loss")
    optimizer = optax.adamw(2e-4, weight_decay=0.01)
    for bands in args.bands:
        lrrf = LRRF(gate="max_confidence", band_pixels=bands or None)
        net = LDIP(BasicVSR(), lrrf, remat_frames=args.remat_frames)

        def loss(params, hr, key_frames, flows, target, net=net):
            variables = {"params": {"lrrf": params}}
            hr = net.apply(variables, hr, key_frames, method="refine")
            hr = net.apply(variables, hr, flows, method="propagate")
            return jnp.mean(jnp.abs((hr - target).astype(jnp.float32)))

        def step(params, moments, *data, loss=loss):
            value, grads = jax.value_and_grad(loss)(params, *data)
            updates, moments = optimizer.update(grads, moments, params)
            return optax.apply_updates(params, updates), moments, value

        params = initialise(partial(init_lrrf, lrrf), jax.random.key(0))
        moments = jax.jit(optimizer.init)(params)
        data = jax.jit(lambda key: batch(args, key))(jax.random.key(1))
        in_torch = torch_step(params, *data) if args.torch else None
        start = time.perf_counter()
        compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, moments, *data).compile()
        took = time.perf_counter() - start

        def in_jax(compiled=compiled, data=data):
            nonlocal params, moments
            params, moments, value = jax.block_until_ready(compiled(params, moments, *data))
            return value

        ours, theirs = [], []
        for _ in range(args.steps + 1 if args.steps else 0):
            ours.append(measure(in_jax))
            if in_torch is not None:
                theirs.append(measure(in_torch))
        memory = compiled.memory_analysis().temp_size_in_bytes / MB
        print(f"{bands:5d} {took:11.1f} {memory:13.0f}" + (report(ours) if ours else ""), flush=True)
        if theirs:
            print(f"torch {'':25s}" + report(theirs), flush=True)
            for name, clock in (("wall", 0), ("cpu", 1)):
                ratios = [a[clock] / b[clock] for a, b in zip(ours[1:], theirs[1:], strict=True)]
                print(f"jax / torch, {name}: {statistics.median(ratios):.2f}", flush=True)


if __name__ == "__main__":
    main()
