"""Compile the programs of inference and training for GPUs, on a machine without one.

    PYTHONPATH=FOLDER python benchmarks/gpu_programs.py [--only see match] [--target rtx4090 h100]
    python benchmarks/gpu_programs.py --work

FOLDER holds JAX's CUDA plugin, of the version of the installed jax, and the libraries that it needs:
`pip install --target FOLDER "jax-cuda12-plugin[with-cuda]==VERSION"`.

Shown for each program: peak memory that the compiler plans (without workspaces of cuDNN), kernel
launches, transposes, collectives, and the bytes that kernels read and write at most, with loops counted as
often as they run. Exits with 0 if all are within `BOUNDS`, 1 if one is not, 2 without the plugin.

`--work` compiles nothing and needs no plugin: products and convolutions of the programs, in TFLOP.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.gpu_targets import TARGETS, Target
from benchmarks.hlo import Counts, counted

PLUGINS = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")
GB = 1e9


class Bound(NamedTuple):
    """The most that a program may take: peak memory in GB, launches, collectives."""

    memory: float
    launches: int
    collectives: int = 0


# Measured for the RTX 4090 with jax 0.10.2, plus a tenth: more means an error, such as an unrolled loop, a
# map copied for every reference, or a band of another size.
BOUNDS = {
    "fuse-720p-2": Bound(2.80, 2_080),
    "hrip-720p": Bound(1.82, 1_720),
    "backbone-basicvsrpp": Bound(0.58, 1_810),
    "match": Bound(1.19, 14_600),
    "refine": Bound(0.22, 126),
    "see-ldip_basicvsrpp_x4": Bound(0.30, 11_500),
    "step-as_basicvsrpp": Bound(0.76, 1_960),
    "step-ldip_basicvsrpp_x4": Bound(10.9, 27_600),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--only",
        nargs="+",
        metavar="NAME",
        help="names, or beginnings of names (default: those with bounds; all for --work)",
    )
    add("--target", nargs="+", default=["rtx4090"], choices=TARGETS, help="GPUs (default: rtx4090)")
    add("--devices", type=int, default=1, metavar="N", help="of one node, for training steps (default: 1)")
    add("--list", action="store_true", help="only the names of the programs")
    add("--work", action="store_true", help="only TFLOP; compiles nothing")
    return parser.parse_args()


def compiled(program: Any, mesh: Any) -> tuple[float, Counts, float]:
    """Peak memory in GB of a program, what it launches, and the seconds of its compilation."""
    start = time.perf_counter()
    run, arrays = program.make(mesh)
    done = run.lower(*arrays).compile()
    memory = done.memory_analysis()
    peak = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    peak -= memory.alias_size_in_bytes
    return peak / GB, counted(done.as_text()), time.perf_counter() - start


def flop(program: Any) -> float:
    """A program's operations, from its trace."""
    import jax
    import numpy as np
    from jax.sharding import Mesh

    from benchmarks.programs import work

    mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "space"))
    run, arrays = program.make(mesh)
    return work(run.trace(*arrays).jaxpr.jaxpr)


def devices(target: Target, count: int) -> Any:
    """A mesh of GPUs in one node, which need not be present."""
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import Mesh

    found = topologies.get_topology_desc(
        platform="cuda", topology_name="", target_config=target.text(), topology=f"1x1x{count}"
    )
    return Mesh(np.array(found.devices).reshape(-1, 1), ("data", "space"))


def chosen(names: list[str]) -> Iterator[tuple[str, Any]]:
    # Slow to import.
    from benchmarks.programs import PROGRAMS

    for name, program in PROGRAMS.items():
        if name.startswith(tuple(names)):
            yield name, program


def main() -> int:
    args = arguments()
    names = args.only or ([""] if args.work else list(BOUNDS))
    # The CPU, because on another platform the plugin looks for a driver and gives up. Autotuning and
    # Triton's products need a device.
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
    if args.list:
        for name, program in chosen([""]):
            print(f"{name:26s} {program.what}")
        return 0
    if args.work:
        for name, program in chosen(names):
            print(f"{name:26s} {flop(program) / 1e12:9.3f} TFLOP  {program.what}", flush=True)
        return 0
    if not any(map(_is_there, PLUGINS)):
        print("gpu_programs: JAX's CUDA plugin is not on the path; see --help", file=sys.stderr)
        return 2
    fine = True
    heads = ("memory GB", "launches", "transposes", "collectives", "moved GB", "seconds")
    print(f"{'target':8s} {'program':26s}" + "".join(f"{head:>12s}" for head in heads))
    for label in args.target:
        mesh = devices(TARGETS[label], args.devices)
        for name, program in chosen(names):
            memory, found, took = compiled(program, mesh)
            bound = BOUNDS.get(name) if label == "rtx4090" and args.devices == 1 else None
            over = bound is not None and exceeds(memory, found, bound)
            fine &= not over
            line = f"{label:8s} {name:26s}{memory:12.2f}{found.launches:12d}{found.transposes:12d}"
            line += f"{found.collectives:12d}{found.bytes / GB:12.1f}{took:12.0f}"
            print(line + (f"  over {bound}" if over else ""), flush=True)
    return 0 if fine else 1


def exceeds(memory: float, found: Counts, bound: Bound) -> bool:
    return memory > bound.memory or found.launches > bound.launches or found.collectives > bound.collectives


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main())
