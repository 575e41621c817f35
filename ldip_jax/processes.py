"""Finds which processes belong together from environment variables; does not need JAX."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from ldip_jax.errors import InputError

VARIABLES = ("COORDINATOR", "NUM_PROCESSES", "PROCESS_ID")
_ARRAY = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
_RANK = ("RANK", "WORLD_SIZE")
_OPEN_MPI = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK")


class Member(NamedTuple):
    """One of several processes.

    Attributes:
        index: number of this process, from 0.
        count: number of all processes.
        local: number of this process on its node if known, else `index`.
        coordinator: host:port of process 0; "" if the launcher provides it.
        launcher: "slurm" or "ompi" if the coordinator is "".
        devices: the GPUs of this process, as places among those that it sees; None: all of them.
    """

    index: int
    count: int
    local: int
    coordinator: str
    launcher: str = ""
    devices: tuple[int, ...] | None = None


def find_member(environment: Mapping[str, str]) -> Member | None:
    """This process, from the variables that its launcher has set; None if there is only one process.

    The variables are, in this order: COORDINATOR (host:port of process 0), NUM_PROCESSES and PROCESS_ID;
    RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, perhaps with LOCAL_RANK and LOCAL_WORLD_SIZE; those of Open
    MPI's `mpirun`; those of Slurm's `srun`.

    Raises:
        InputError: some of the variables are missing or invalid.
    """
    values = {name: environment[name] for name in VARIABLES if environment.get(name)}
    if values:
        if missing := [name for name in VARIABLES if name not in values]:
            raise InputError(f"{', '.join(missing)}: not set, though {', '.join(values)} is; set all three")
        count, index = (_number(name, values[name]) for name in VARIABLES[1:])
        host, _, port = values["COORDINATOR"].rpartition(":")
        if not host or not port.isdecimal():
            raise InputError(f"COORDINATOR={values['COORDINATOR']}: not host:port, such as node1:8476")
        if index >= count:
            raise InputError(
                f"PROCESS_ID={index}: must be less than NUM_PROCESSES={count}; processes are counted from 0"
            )
        return Member(index, count, index, values["COORDINATOR"]) if count > 1 else None
    if all(environment.get(name) for name in _RANK):
        index, count = (_number(name, environment[name]) for name in _RANK)
        if count < 2:
            return None
        if index >= count:
            raise InputError(f"RANK={index}: must be less than WORLD_SIZE={count}")
        coordinator = _master(environment)
        if not coordinator:
            raise InputError(
                "MASTER_ADDR, MASTER_PORT: not set, though RANK and WORLD_SIZE are; set all four"
            )
        if not environment.get("LOCAL_RANK"):
            return Member(index, count, index, coordinator)
        local = _number("LOCAL_RANK", environment["LOCAL_RANK"])
        only_process = environment.get("LOCAL_WORLD_SIZE") == "1"
        return Member(index, count, local, coordinator, "", _devices(environment, local, only_process))
    if all(name in environment for name in _OPEN_MPI):
        index, count, local = (_number(name, environment[name]) for name in _OPEN_MPI)
        if count < 2:
            return None
        coordinator = _master(environment)
        if not coordinator and "OMPI_MCA_orte_hnp_uri" not in environment:
            raise InputError(
                "MASTER_ADDR, MASTER_PORT: not set, and this Open MPI does not say where process 0 is; pass"
                " them with mpirun -x"
            )
        only_process = environment.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"
        launcher = "" if coordinator else "ompi"
        return Member(index, count, local, coordinator, launcher, _devices(environment, local, only_process))
    if all(name in environment for name in _SLURM):
        count, index, local = (_number(name, environment[name]) for name in _SLURM[2:])
        if count < 2:
            return None
        only_process = environment.get("SLURM_STEP_NUM_NODES") == environment["SLURM_NTASKS"]
        return Member(
            index, count, local, "", "slurm", _devices(environment, local, only_process) or (local,)
        )
    return None


def _master(environment: Mapping[str, str]) -> str:
    """host:port from MASTER_ADDR and MASTER_PORT; "" if neither is set."""
    address, port = (environment.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
    if not address and not port:
        return ""
    if not address or not port.isdecimal():
        raise InputError(f"MASTER_ADDR={address}, MASTER_PORT={port}: not a host and a port; set both")
    return f"{address}:{port}"


def _devices(environment: Mapping[str, str], local: int, only_process: bool) -> tuple[int, ...] | None:
    """The GPUs of a process, the `local`-th of its node, that may see its own GPU only or all of the node.

    Args:
        only_process: whether it is the only process on its node, so that all GPUs are its own.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    count = None if visible is None else len(list(filter(None, visible.split(","))))
    if count == 1:
        return (0,)
    if only_process:
        return None if count is None else tuple(range(count))
    return (local,)


def find_task(environment: Mapping[str, str]) -> Member | None:
    """This task of a Slurm job array, whose tasks share only files; None if there is only one.

    Tasks are numbered without gaps, as `sbatch --array=0-7` does. On other arrays, some numbers are not used.

    Raises:
        InputError: a variable is invalid.
    """
    if not all(name in environment for name in _ARRAY):
        return None
    task, least, count = (_number(name, environment[name]) for name in _ARRAY)
    return Member((task - least) % max(count, 1), count, 0, "") if count > 1 else None


def own_shard() -> tuple[int, int]:
    """This process's number and the number of processes, from the environment; also selects its GPU.

    Processes share only files: if one ends early or dies, the others continue. Call this before JAX looks for
    devices.

    Raises:
        InputError: the environment says nothing of other processes.
    """
    member = find_member(os.environ) or find_task(os.environ)
    if member is None:
        raise InputError(
            "--shard auto: no other processes are found; start them with srun or as a job array, set"
            f" {', '.join(VARIABLES)} for each, or give --shard I/N"
        )
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if len(gpus) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[member.local % len(gpus)]
    return member.index, member.count


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise InputError(f"{name}={text}: not a number")
    return int(text)
