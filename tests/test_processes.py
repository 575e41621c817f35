"""Which processes belong together."""

import pytest

from ldip_jax.errors import InputError
from ldip_jax.processes import Member, find_member

SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"COORDINATOR": "localhost:8476", "NUM_PROCESSES": "1", "PROCESS_ID": "0"},
        {**SLURM, "SLURM_NTASKS": "1"},
        # Inside an allocation, but not started by srun.
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"},
    ],
)
def test_a_process_may_be_alone(environment):
    assert find_member(environment) is None


@pytest.mark.parametrize(
    ("environment", "member"),
    [
        (
            {"COORDINATOR": "localhost:8476", "NUM_PROCESSES": "3", "PROCESS_ID": "2"},
            Member(2, 3, 2, "localhost:8476"),
        ),
        ({**SLURM, "SLURM_NTASKS": "8"}, Member(5, 8, 1, "")),
    ],
)
def test_one_of_several(environment, member):
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
        ({"COORDINATOR": "a:1", "NUM_PROCESSES": "2", "PROCESS_ID": "2"}, "PROCESS_ID=2: not below"),
    ],
)
def test_a_half_described_cluster_is_refused(environment, message):
    with pytest.raises(InputError, match=message):
        find_member(environment)
