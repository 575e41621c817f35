"""How tests compile: with fewer optimisations than users get, which takes about half as long."""

import os
from importlib import metadata

# Without LLVM's optimisations ("0"), compiling would be quicker still, but networks would take twice as long.
FLAGS = {"--xla_backend_optimization_level": "1"}
# XLA's fusion emitters are the slowest part of compiling. Splitting programs into parts, which LLVM compiles
# in parallel, spends a tenth of the time on copies. LLVM's expensive passes take another tenth. An unknown
# flag ends the process, so these are set only for the version of jaxlib with which they were tested.
if metadata.version("jaxlib") == "0.10.2":
    FLAGS |= {"--xla_cpu_use_fusion_emitters": "false", "--xla_cpu_parallel_codegen_split_count": "1"}
    FLAGS |= {"--xla_llvm_disable_expensive_passes": "true"}


def hardly_optimised() -> str:
    """XLA's flags for a process that trains for only a few steps, and spends its time on compiling."""
    flags = os.environ["XLA_FLAGS"]
    return flags.replace("--xla_backend_optimization_level=1", "--xla_backend_optimization_level=0")


def compile_quickly() -> None:
    """Set XLA's flags for this process and those that it starts; flags that are set already are kept."""
    flags = os.environ.get("XLA_FLAGS", "")
    new = (f"{name}={value}" for name, value in FLAGS.items() if name not in flags)
    os.environ["XLA_FLAGS"] = " ".join((flags, *new)).strip()
