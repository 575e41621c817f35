"""Settings that must precede the import of jax: compiler flags, the compilation cache, garbage collection."""

import gc
import os
import sys
import warnings
from contextlib import suppress
from importlib import metadata

from ldip_jax.cache import cache_dir
from ldip_jax.errors import InputError

# XLA's special path for small convolutions uses only one CPU core, so it is switched off. An unknown flag
# ends the process, so each flag is set only for the jaxlib versions with which it was tested.
FLAGS = {"--xla_cpu_experimental_ynn_fusion_type": ("-individual_convolution", ("0.10.2",))}

# Objects created, and younger collections, before Python collects garbage of each of its three generations.
COLLECTED_AFTER = (50_000, 10, 10)

# In a fixed order of sums, XLA's Triton path cannot compile the products of a resize at highest precision for
# compute capabilities 8.6 and 8.9 (Ampere, Ada).
DETERMINISTIC = {"--xla_gpu_deterministic_ops": "true", "--xla_gpu_enable_triton_gemm": "false"}


def make_deterministic() -> None:
    """Make GPUs sum in a fixed order. Call this before the first program is compiled."""
    flags = os.environ.get("XLA_FLAGS", "")
    for name, value in DETERMINISTIC.items():
        if name not in flags:
            flags = f"{flags} {name}={value}".strip()
    os.environ["XLA_FLAGS"] = flags


def configure() -> None:
    """Set flags, cache and garbage collection for this process; the user's own settings are kept.

    Only for entry points, before jax is imported: a library must not change the settings of its host.
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
    # Whoever needs the folder for weights reports that there is none.
    with suppress(InputError):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / "compiled"))
    # Half of all programs compile in less than the second that jax asks for, but together they take seconds.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    # Tracing creates millions of objects, most of which stay: collecting garbage took a seventh of its time.
    gc.set_threshold(*COLLECTED_AFTER)
    # A cache that is read-only or damaged costs only time: programs are compiled again.
    warnings.filterwarnings(
        "ignore", "Error (reading|writing) persistent compilation cache entry", UserWarning
    )


def missing_device() -> str | None:
    """One line on the devices that the environment asks for and that jax does not find; None: all is well."""
    wanted = os.environ.get("JAX_PLATFORMS")
    jax = sys.modules.get("jax")
    if not wanted or jax is None:
        return None
    try:
        jax.devices()
    except Exception:
        return f"JAX_PLATFORMS={wanted}: jax finds no such device; unset it, or set it to cpu"
    return None
