"""Records as files."""

import numpy as np
import pytest
import safetensors.numpy

from ldip_jax.data.records import load_record, record_files, record_provenance, save_record
from ldip_jax.errors import InputError
from tests.data.record import made_up


def test_a_record_comes_back_as_it_was(rng, tmp_path):
    record = made_up(rng)
    path = tmp_path / "a.safetensors"
    save_record(path, record, {"clip": "a", "matcher": "gmflow"})
    for name, before, after in zip(record._fields, record, load_record(path), strict=True):
        np.testing.assert_array_equal(before, after, err_msg=name)
        assert before.dtype == after.dtype, name
    assert record_provenance(path) == {"clip": "a", "matcher": "gmflow"}
    assert record_files(tmp_path) == [path]


def test_what_is_no_record_is_named(rng, tmp_path):
    path = tmp_path / "a.safetensors"
    save_record(path, made_up(rng), {})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"a\.safetensors: not a whole record"):
        load_record(path)
    safetensors.numpy.save_file({"x": np.zeros(3)}, path)
    for read in (load_record, record_provenance):
        with pytest.raises(InputError, match="not a record of this version"):
            read(path)
    with pytest.raises(InputError, match="not a whole record"):
        load_record(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="no records in it"):
        record_files(tmp_path / "none")
