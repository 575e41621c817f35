"""One program for one device, many, and many processes: samples are spread, everything else is everywhere.

Parameters, optimizer and frozen weights are small, so each device holds all of them; the compiler adds the
exchange of gradients. What a run computes depends on its global batch alone, not on the number of devices.
"""

import os
from collections.abc import Mapping
from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from ldip_jax.errors import InputError

# Samples lie along "data". "space" has one device: the place for sharding time or rows, should one sample
# ever not fit a device.
AXES = ("data", "space")
VARIABLES = ("COORDINATOR", "NUM_PROCESSES", "PROCESS_ID")
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")


def join_processes(environment: Mapping[str, str] = os.environ, *, timeout: int = 300) -> bool:
    """Connect this process with the others of its run; before anything else of JAX.

    The environment says which: COORDINATOR (host:port of process 0), NUM_PROCESSES and PROCESS_ID; or what
    Slurm's `srun` sets. A process that finds neither is alone.

    Args:
        environment: where to look.
        timeout: seconds to wait for the others.

    Returns:
        Whether there are others.

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
        if count == 1:
            return False
        jax.distributed.initialize(
            given["COORDINATOR"],
            count,
            index,
            cluster_detection_method="deactivate",
            initialization_timeout=timeout,
        )
        _meet()
        return True
    if all(name in environment for name in _SLURM) and environment["SLURM_NTASKS"] != "1":
        jax.distributed.initialize(cluster_detection_method="slurm", initialization_timeout=timeout)
        _meet()
        return True
    return False


def _meet() -> None:
    # On CPUs the first exchange waits 30 s: it comes while all have just joined, before any compiles.
    multihost_utils.sync_global_devices("joined")


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise InputError(f"{name}={text}: not a number")
    return int(text)


def make_mesh() -> Mesh:
    """All devices of all processes."""
    shape = (jax.device_count(), 1)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device: parameters, optimizer, metrics."""
    return NamedSharding(mesh, PartitionSpec())


def by_sample(mesh: Mesh) -> NamedSharding:
    """The first axis, samples, spread over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def local_batch_size(mesh: Mesh | AbstractMesh, batch_size: int) -> int:
    """Samples that this process loads for each step.

    Raises:
        InputError: the global batch does not divide among the devices.
    """
    devices = mesh.shape["data"]
    if batch_size < 1 or batch_size % devices:
        below, above = batch_size // devices * devices, -(-batch_size // devices) * devices
        nearest = f"{below} or {above}" if 0 < below < above else f"{max(above, devices)}"
        raise InputError(
            f"config.batch_size={batch_size}: does not divide among {devices} devices; use {nearest}, or"
            " fewer devices"
        )
    return batch_size // jax.process_count()


def spread(mesh: Mesh, batch: Any) -> Any:
    """A process's samples, stacked on a first axis, as its part of the global batch on the devices.

    Args:
        mesh: see `make_mesh`.
        batch: NumPy arrays, `local_batch_size` long; other axes have the same sizes in every process.
    """
    sharding = by_sample(mesh)
    return jax.tree.map(lambda part: jax.make_array_from_process_local_data(sharding, part), batch)
