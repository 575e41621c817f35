"""Which processes belong together, as their environment says; needs no JAX."""

from collections.abc import Mapping
from typing import NamedTuple

from ldip_jax.errors import InputError

VARIABLES = ("COORDINATOR", "NUM_PROCESSES", "PROCESS_ID")
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")


class Member(NamedTuple):
    """One of several processes.

    Attributes:
        index, count: this one, and all of them.
        local: its number among those of its node, as far as it is known; else `index`.
        coordinator: host:port of process 0; "" where Slurm tells.
    """

    index: int
    count: int
    local: int
    coordinator: str


def find_member(environment: Mapping[str, str]) -> Member | None:
    """This process, from COORDINATOR (host:port of process 0), NUM_PROCESSES and PROCESS_ID, or from what
    Slurm's `srun` sets; None if it is alone.

    Raises:
        InputError: some of the three are missing or no numbers.
    """
    given = {name: environment[name] for name in VARIABLES if environment.get(name)}
    if given:
        if missing := [name for name in VARIABLES if name not in given]:
            raise InputError(f"{', '.join(missing)}: not set, though {', '.join(given)} is; set all three")
        count, index = (_number(name, given[name]) for name in VARIABLES[1:])
        host, _, port = given["COORDINATOR"].rpartition(":")
        if not host or not port.isdecimal():
            raise InputError(f"COORDINATOR={given['COORDINATOR']}: not host:port, such as node1:8476")
        if index >= count:
            raise InputError(f"PROCESS_ID={index}: not below NUM_PROCESSES={count}; they are counted from 0")
        return Member(index, count, index, given["COORDINATOR"]) if count > 1 else None
    if all(name in environment for name in _SLURM):
        count, index, local = (_number(name, environment[name]) for name in _SLURM[2:])
        return Member(index, count, local, "") if count > 1 else None
    return None


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise InputError(f"{name}={text}: not a number")
    return int(text)
