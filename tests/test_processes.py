"""Which processes belong together."""

import pytest

from ldip_jax.errors import InputError
from ldip_jax.processes import Member, find_member, find_task

SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}
MASTER = {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"COORDINATOR": "localhost:8476", "NUM_PROCESSES": "1", "PROCESS_ID": "0"},
        {**SLURM, "SLURM_NTASKS": "1"},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "1"},
        # Inside an allocation, but not started by srun.
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"},
    ],
)
def test_a_single_process_belongs_to_no_group(environment):
    assert find_member(environment) is None


@pytest.mark.parametrize(
    ("environment", "member"),
    [
        (
            {"COORDINATOR": "localhost:8476", "NUM_PROCESSES": "3", "PROCESS_ID": "2"},
            Member(2, 3, 2, "localhost:8476"),
        ),
        ({**SLURM, "SLURM_NTASKS": "8"}, Member(5, 8, 1, "", "slurm", (1,))),
        # srun --gpus-per-task=1: each process sees its own GPU only.
        (
            {**SLURM, "SLURM_NTASKS": "8", "CUDA_VISIBLE_DEVICES": "3"},
            Member(5, 8, 1, "", "slurm", (0,)),
        ),
        (
            {**SLURM, "SLURM_NTASKS": "8", "CUDA_VISIBLE_DEVICES": "0,1,2,3"},
            Member(5, 8, 1, "", "slurm", (1,)),
        ),
        # One process per node has all GPUs of its node.
        (
            {
                **SLURM,
                "SLURM_NTASKS": "8",
                "SLURM_STEP_NUM_NODES": "8",
                "SLURM_LOCALID": "0",
                "CUDA_VISIBLE_DEVICES": "0,1",
            },
            Member(5, 8, 0, "", "slurm", (0, 1)),
        ),
        ({**MASTER, "RANK": "3", "WORLD_SIZE": "4"}, Member(3, 4, 3, "node1:29500")),
        (
            {**MASTER, "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"},
            Member(3, 4, 1, "node1:29500", "", (1,)),
        ),
        (
            {**MASTER, "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"},
            Member(3, 4, 0, "node1:29500"),
        ),
        # Slurm may have started the launcher.
        (
            {**SLURM, **MASTER, "SLURM_NTASKS": "8", "RANK": "0", "WORLD_SIZE": "2"},
            Member(0, 2, 0, "node1:29500"),
        ),
        ({**OPEN_MPI, **MASTER}, Member(2, 4, 0, "node1:29500", "", (0,))),
        ({**OPEN_MPI, "OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:3"}, Member(2, 4, 0, "", "ompi", (0,))),
    ],
)
def test_a_process_among_several_knows_its_group(environment, member):
    assert find_member(environment) == member


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"COORDINATOR": "a:1"}, "NUM_PROCESSES, PROCESS_ID: not set, though COORDINATOR is"),
        (
            {"COORDINATOR": "a:1", "NUM_PROCESSES": "two", "PROCESS_ID": "0"},
            "NUM_PROCESSES=two: not a number",
        ),
        ({"COORDINATOR": "a", "NUM_PROCESSES": "2", "PROCESS_ID": "0"}, "COORDINATOR=a: not host:port"),
        ({"COORDINATOR": "a:1", "NUM_PROCESSES": "2", "PROCESS_ID": "2"}, "PROCESS_ID=2: must be less than"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR, MASTER_PORT: not set, though RANK"),
        ({"RANK": "2", "WORLD_SIZE": "2", **MASTER}, "RANK=2: must be less than WORLD_SIZE=2"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a"}, "not a host and a port; set both"),
        (OPEN_MPI, "not set, and this Open MPI does not say where"),
    ],
)
def test_an_incompletely_described_cluster_is_refused(environment, message):
    with pytest.raises(InputError, match=message):
        find_member(environment)


def test_a_task_of_a_job_array():
    array = {"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "8"}
    assert find_task(array) == Member(3, 8, 0, "")
    assert find_task({**array, "SLURM_ARRAY_TASK_COUNT": "1"}) is None
    assert find_task({}) is None
    with pytest.raises(InputError, match="SLURM_ARRAY_TASK_ID=x: not a number"):
        find_task({**array, "SLURM_ARRAY_TASK_ID": "x"})
