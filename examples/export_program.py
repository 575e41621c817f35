"""Programs of inference as files, with `jax.export`: they run without ldip_jax, and without tracing.

python examples/export_program.py [FOLDER]

Two programs are written for frames of one size: `step.jaxexport`, one step of the backbone's first branch,
and `decode.jaxexport`, from a frame's LR features to its image. Both contain the weights. Each is read back
and compared with the program from which it was made. A file runs on the platforms named by `--platforms`.
Needs the package `flatbuffers`.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flags import parser
from scene import moving_clip

import ldip_jax
from ldip_jax.atomic import atomic_open


def write(path: Path, program: Callable, arguments: Sequence[jax.Array], platforms: Sequence[str]) -> None:
    """Write a program for arguments of these shapes."""
    exported = jax.export.export(jax.jit(program), platforms=platforms)(*arguments)
    with atomic_open(path) as file:
        file.write(exported.serialize())


def difference(path: Path, program: Callable, arguments: Sequence[jax.Array]) -> float:
    """The largest difference between the file's output and the program's."""
    read = jax.export.deserialize(bytearray(path.read_bytes()))
    actual, expected = read.call(*arguments), jax.jit(program)(*arguments)
    return max(float(np.abs(a - b).max()) for a, b in zip(actual, expected, strict=True))


def main(argv: Sequence[str] | None = None) -> None:
    flags = parser(__doc__.splitlines()[0])
    flags.add_argument("folder", type=Path, nargs="?", default=Path("runs/programs"))
    flags.add_argument("--platforms", nargs="+", default=["cpu"], help="of cpu, cuda, tpu")
    args = flags.parse_args(argv)
    os.makedirs(args.folder, exist_ok=True)
    frames = jnp.asarray(moving_clip(2, *args.size)[0])
    model, params = ldip_jax.load_pretrained(args.backbone, "none")
    variables = {"params": params}

    def run(method: Any, *inputs: Any) -> Any:
        return model.apply(variables, *inputs, method=method)

    def now(method: Any, *inputs: Any) -> Any:
        return jax.jit(partial(run, method))(*inputs)

    # The state of a branch is a tree of arrays; files take and return its leaves.
    branch = model.backbone.branches[0]
    state, tree = jax.tree.flatten(now(lambda net: net.backbone.carry(frames[:1])))

    def step(encoded: jax.Array, flow: jax.Array, *state: jax.Array) -> list[jax.Array]:
        carry = jax.tree.unflatten(tree, state)
        return jax.tree.leaves(run(lambda net: net.backbone.step(branch, carry, (encoded,), flow)))

    def decode(features: jax.Array, frame: jax.Array) -> list[jax.Array]:
        return [jnp.clip(run("decode", run("upscale", features), frame), 0.0, 1.0)]

    encoded = now(lambda net: net.backbone.encode(frames[:1]))
    flow = now(lambda net: net.backbone.flow(frames[:1], frames[1:]))
    features = now("features", frames[None])[:, 0]
    for name, program, arguments in (
        ("step", step, (encoded, flow, *state)),
        ("decode", decode, (features, frames[:1])),
    ):
        path = args.folder / f"{name}.jaxexport"
        write(path, program, arguments, args.platforms)
        shapes = ", ".join(str(argument.shape) for argument in arguments)
        gap = difference(path, program, arguments)
        print(f"{path}: {path.stat().st_size} bytes; takes {shapes}; differs by {gap:.1e} at most")


if __name__ == "__main__":
    main()
