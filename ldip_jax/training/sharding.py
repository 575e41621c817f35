"""One program for one device, many, and many processes: samples are spread, everything else is everywhere.

Parameters, optimizer and frozen weights are small, so each device holds all of them. Devices exchange one
mean of their gradients for each step and nothing else. What a run computes depends on its global batch alone,
not on the number of devices.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from ldip_jax.errors import InputError
from ldip_jax.processes import find_member

# Samples lie along "data". "space" has one device: the place for sharding time or rows, should one sample
# ever not fit a device.
AXES = ("data", "space")
EVERYWHERE, SAMPLES = PartitionSpec(), PartitionSpec("data")

T = TypeVar("T")


def join_processes(environment: Mapping[str, str] = os.environ, *, timeout: int = 300) -> bool:
    """Connect this process with the others of its run; before anything else of JAX.

    The environment says which, see `find_member`.

    Args:
        environment: where to look.
        timeout: seconds to wait for the others.

    Returns:
        Whether there are others.

    Raises:
        InputError: some of the three are missing or no numbers.
    """
    member = find_member(environment)
    if member is None:
        return False
    if member.coordinator:
        jax.distributed.initialize(
            member.coordinator,
            member.count,
            member.index,
            cluster_detection_method="deactivate",
            initialization_timeout=timeout,
        )
    else:
        jax.distributed.initialize(cluster_detection_method="slurm", initialization_timeout=timeout)
    _meet()
    return True


def _meet() -> None:
    # On CPUs the first exchange waits 30 s: it comes while all have just joined, before any compiles.
    multihost_utils.sync_global_devices("joined")


def make_mesh() -> Mesh:
    """All devices of all processes."""
    shape = (jax.device_count(), 1)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device: parameters, optimizer, metrics."""
    return NamedSharding(mesh, EVERYWHERE)


def by_sample(mesh: Mesh) -> NamedSharding:
    """The first axis, samples, spread over the devices."""
    return NamedSharding(mesh, SAMPLES)


def mean_over_devices(f: Callable[..., T], mesh: Mesh | AbstractMesh) -> Callable[..., T]:
    """`f(*everywhere, batch)`, done by each device for its own samples, and the mean of what comes out.

    Left to itself, the compiler brings all samples' maps to every device for each gather at places that
    differ by sample, as all warps are, and exchanges gradients inside of loops.

    Args:
        f: a mean over the samples of its last argument; other arguments are the same everywhere.
    """

    def own(*args: Any) -> T:
        return jax.lax.pmean(f(*args), "data")

    def shared(*args: Any) -> T:
        specs = (*(EVERYWHERE for _ in args[:-1]), SAMPLES)
        return jax.shard_map(own, mesh=mesh, in_specs=specs, out_specs=EVERYWHERE, check_vma=False)(*args)

    return shared


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
