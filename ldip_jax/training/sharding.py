"""One program for one device, many devices or many processes: samples are spread, the rest is replicated.

Parameters, optimizer state and frozen weights are small, so each device holds all of them. In each step,
devices exchange one mean of their gradients and the statistics by which a loss is normalised. What a run
computes depends only on its global batch, not on the number of devices.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from ldip_jax.errors import InputError
from ldip_jax.processes import find_member

# Samples are spread along "data". "space" has one device. Time or rows can be sharded along it if one sample
# ever does not fit on a device.
AXES = ("data", "space")
EVERYWHERE, SAMPLES = PartitionSpec(), PartitionSpec("data")

# Seconds without a sign of life after which a process counts as dead, and all others end.
HEARTBEAT = 30

T = TypeVar("T")


def join_processes(environment: Mapping[str, str] = os.environ, *, timeout: int = 300) -> bool:
    """Connect this process with the others of its run. Call it before any other function of JAX.

    The environment says which processes belong together, see `find_member`.

    Args:
        environment: the environment variables.
        timeout: seconds to wait for the others.

    Returns:
        Whether there are other processes.

    Raises:
        InputError: some of the variables are missing or invalid.
    """
    member = find_member(environment)
    if member is None:
        return False
    where: dict[str, Any] = {"cluster_detection_method": member.launcher}
    if member.coordinator:
        where = {
            "coordinator_address": member.coordinator,
            "num_processes": member.count,
            "process_id": member.index,
            "cluster_detection_method": "deactivate",
        }
    jax.distributed.initialize(
        **where,
        local_device_ids=member.devices,
        initialization_timeout=timeout,
        heartbeat_timeout_seconds=HEARTBEAT,
    )
    _synchronise()
    return True


def _synchronise() -> None:
    # On CPUs the first exchange waits at most 30 s, so it happens here: before any process compiles.
    multihost_utils.sync_global_devices("joined")


def make_mesh() -> Mesh:
    """A mesh of all devices of all processes."""
    shape = (jax.device_count(), 1)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device: for parameters, optimizer state and metrics."""
    return NamedSharding(mesh, EVERYWHERE)


def by_sample(mesh: Mesh) -> NamedSharding:
    """The first axis, samples, spread over the devices."""
    return NamedSharding(mesh, SAMPLES)


def mean_over_devices(f: Callable[..., T], mesh: Mesh | AbstractMesh) -> Callable[..., T]:
    """`f(*everywhere, batch)`, computed by each device for its own samples; the results are averaged.

    Left to itself, the compiler copies all samples' maps to every device for each gather whose places differ
    by sample, as those of every warp do, and exchanges gradients inside loops.

    Args:
        f: a mean over the samples of its last argument; other arguments are the same everywhere. Statistics
            over all samples together, such as a divisor, must be computed with `mean_of_all`.
    """

    def on_device(*args: Any) -> T:
        return jax.lax.pmean(f(*args), "data")

    def averaged(*args: Any) -> T:
        specs = (*(EVERYWHERE for _ in args[:-1]), SAMPLES)
        return jax.shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=EVERYWHERE, check_vma=False)(
            *args
        )

    return averaged


def mean_of_all(x: Float[Array, "..."]) -> Float[Array, ""]:
    """The mean of `x` over all devices, with as many values on each; only within `mean_over_devices`."""
    return jax.lax.pmean(jnp.mean(x), "data")


def of_first_process(values: T) -> T:
    """The first process's arrays, in all processes: sums computed by each would differ in their last digits.

    Args:
        values: NumPy arrays with the same shapes in every process; 64-bit types are not preserved.
    """
    return multihost_utils.broadcast_one_to_all(values) if jax.process_count() > 1 else values


def local_batch_size(mesh: Mesh | AbstractMesh, batch_size: int) -> int:
    """Samples that this process loads for each step.

    Raises:
        InputError: the global batch cannot be divided equally among the devices.
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
    """The global batch on the devices, made of the samples of every process, stacked on a first axis.

    Args:
        mesh: see `make_mesh`.
        batch: this process's NumPy arrays, `local_batch_size` long; other axes have the same sizes in every
            process.
    """
    sharding = by_sample(mesh)
    return jax.tree.map(lambda part: jax.make_array_from_process_local_data(sharding, part), batch)
