"""Sizes of memory: how users write them, and what the machine has free."""

import os
import re
from contextlib import suppress
from pathlib import Path

from ldip_jax.errors import InputError

_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
# The share of the free memory that is used by default.
SHARE = 0.75


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
