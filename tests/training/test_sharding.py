"""Which processes are connected, how samples are spread, and which batch sizes are refused."""

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from ldip_jax.errors import InputError
from ldip_jax.training.sharding import AXES, join_processes, local_batch_size, make_mesh, spread

SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


def test_a_single_process_joins_nothing():
    assert join_processes({}) is False


def test_slurm_is_detected(monkeypatch):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **options: calls.append(options))
    assert join_processes({**SLURM, "SLURM_NTASKS": "4"}) is True
    assert calls[0]["cluster_detection_method"] == "slurm"


def test_a_batch_divides_among_devices():
    assert local_batch_size(make_mesh(), 3) == 3
    with pytest.raises(InputError, match="batch_size=0: does not divide among 1 devices; use 1,"):
        local_batch_size(make_mesh(), 0)


@pytest.mark.parametrize(("batch", "advice"), [(6, "use 4 or 8,"), (2, "use 4,")])
def test_a_batch_that_does_not_divide_is_refused_with_sizes_that_do(batch, advice):
    with pytest.raises(InputError, match=rf"batch_size={batch}: does not divide among 4 devices; {advice}"):
        local_batch_size(AbstractMesh((4, 1), AXES), batch)


def test_samples_are_spread():
    batch = {"a": np.arange(6.0).reshape(2, 3)}
    array = spread(make_mesh(), batch)["a"]
    assert array.sharding.spec[0] == "data"
    np.testing.assert_array_equal(np.asarray(array), batch["a"])
