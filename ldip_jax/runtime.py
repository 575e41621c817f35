"""What a program sets up before jax is imported: compiler flags and the compilation cache."""

import os
from importlib import metadata

from ldip_jax.cache import cache_dir

# Small convolutions on a CPU run on one core unless their special path is off. An unknown flag ends the
# process, so each is set only for the jaxlib versions that it was tried with.
FLAGS = {"--xla_cpu_experimental_ynn_fusion_type": ("-individual_convolution", ("0.10.2",))}

DETERMINISTIC = "xla_gpu_deterministic_ops"


def make_deterministic() -> None:
    """Have GPUs sum up in a fixed order, in programs compiled from now on; before the first of them."""
    flags = os.environ.get("XLA_FLAGS", "")
    if DETERMINISTIC not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{DETERMINISTIC}=true".strip()


def configure() -> None:
    """Set the flags and the cache for this process; what the user has set stays as it is.

    For entry points alone, before jax is imported; a library must not change its host's settings.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    try:
        version = metadata.version("jaxlib")
    except metadata.PackageNotFoundError:
        version = ""
    for name, (value, versions) in FLAGS.items():
        if version in versions and name not in flags:
            flags = f"{flags} {name}={value}".strip()
    if flags:
        os.environ["XLA_FLAGS"] = flags
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
