"""Sizes of memory, as users write them and as the machine has it free, and what goes back to the machine."""

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ldip_jax.errors import InputError

_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
# The share of the free memory that is used by default.
SHARE = 0.75
# After compiling for so many seconds, memory is returned, which takes up to a tenth of a second.
LONG_COMPILING = 0.5


def parse_size(text: str) -> int:
    """Bytes from a number with K, M, G or T (powers of 1024), such as "1500M" or "8G".

    Raises:
        InputError: not such a size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)I?B?", text.strip().upper())
    if found is None or float(found[1]) == 0.0:
        raise InputError(f"memory {text!r}: give a size, such as 1500M or 8G")
    return int(float(found[1]) * 1024 ** _UNITS[found[2]])


def show_size(count: int) -> str:
    """Bytes as `parse_size` reads them, rounded up: whole megabytes, or tenths of gigabytes from 10 G on."""
    megabytes = -(-count // 2**20)
    return f"{megabytes}M" if megabytes < 10 * 1024 else f"{-(-megabytes * 10 // 1024) / 10:g}G"


def free_memory() -> int:
    """Bytes that a process of this machine can still take, limits of its control group included."""
    free = []
    with suppress(OSError, ValueError):
        free.append(_field(Path("/proc/meminfo"), "MemAvailable:") * 1024)
    if not free and hasattr(os, "sysconf"):
        with suppress(OSError, ValueError):
            free.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    free += _group_limits()
    return max(0, min(free, default=4 * 2**30))


def resident() -> int:
    """Bytes of memory that this process holds now; 0 where the system does not tell."""
    with suppress(OSError, ValueError):
        return _field(Path("/proc/self/status"), "VmRSS:") * 1024
    return 0


def return_unused() -> None:
    """Return memory that was freed but that the C library keeps to use again; only glibc can."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def returned_after_compiling() -> Iterator[None]:
    """In this block, what compiling has freed goes back to the system.

    The compiler frees hundreds of megabytes in small pieces. The C library keeps these, but the large arrays
    that are allocated next do not fit into them.
    """
    import jax.monitoring

    def listen(event: str, duration_secs: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration" and duration_secs > LONG_COMPILING:
            return_unused()

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise ValueError(name)


def _group_limits(
    root: Path = Path("/sys/fs/cgroup"), cgroup_file: Path = Path("/proc/self/cgroup")
) -> list[int]:
    """What the control groups of this process leave, version 1 and 2; page cache counts as free."""
    limits: list[int] = []
    with suppress(OSError, ValueError):
        for line in cgroup_file.read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            base = root / "memory" if controllers else root
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ()
            most, used = names or ("memory.max", "memory.current")
            place = base / name.strip("/")
            for folder in (place, *place.parents):
                if folder != base and base not in folder.parents:
                    break
                with suppress(OSError, ValueError):
                    limit = int((folder / most).read_text())
                    cache = 0
                    with suppress(OSError, ValueError):
                        cache = _field(folder / "memory.stat", "inactive_file")
                    limits.append(limit - int((folder / used).read_text()) + cache)
    return limits
