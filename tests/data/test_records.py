"""Saving and loading records."""

import numpy as np
import pytest
import safetensors.numpy

from ldip_jax.data import records
from ldip_jax.data.crop_spec import CropSpec
from ldip_jax.data.crops import draw_crop
from ldip_jax.data.records import load_record, open_record, record_files, record_provenance, save_record
from ldip_jax.errors import InputError
from tests.data.record import draw_reference, random_record


def test_a_saved_record_is_loaded_unchanged(rng, tmp_path):
    record = random_record(rng)
    path = tmp_path / "a.safetensors"
    save_record(path, record, {"clip": "a", "matcher": "gmflow"})
    for name, before, after in zip(record._fields, record, load_record(path), strict=True):
        np.testing.assert_array_equal(before, after, err_msg=name)
        assert getattr(before, "dtype", None) == getattr(after, "dtype", None), name
    assert record_provenance(path) == {"clip": "a", "matcher": "gmflow"}
    assert record_files(tmp_path) == [path]


def test_files_that_are_not_records_are_named(rng, tmp_path):
    path = tmp_path / "a.safetensors"
    save_record(path, random_record(rng), {})
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


@pytest.mark.parametrize("damaged", [False, True])
def test_a_crop_reads_only_its_own_part_of_a_record(rng, tmp_path, monkeypatch, damaged):
    whole = random_record(rng, size=(96, 128), frames=6, candidates=2)
    size, keys = whole.hr.shape[1:3], len(whole.key_frames)
    whole = whole._replace(
        route_warps=rng.uniform(-9, 500, (6, keys, *size, 2)).astype(np.float32),
        route_confidence=rng.random((6, keys, *size, 1), np.float32),
        lr_references=whole.lr[:4] if damaged else None,
    )
    path = tmp_path / "a.safetensors"
    save_record(path, whole, {})
    read = []
    index = records._LazyArray.__getitem__

    def counted(stored, where):
        found = index(stored, where)
        read.append(found.nbytes)
        return found

    monkeypatch.setattr(records._LazyArray, "__getitem__", counted)
    spec = CropSpec(
        target_frames=3,
        hr_side=64,
        reference_side=64,
        window_jitter=8,
        max_key_frames=2,
        max_references=2,
        self_references=0.5,
        routes=True,
    )
    record = load_record(path)
    for seed in range(4):
        del read[:]
        want = draw_crop(record, draw_reference(record), np.random.default_rng(seed), spec)
        assert not read
        with open_record(path) as opened:
            got = draw_crop(opened, draw_reference(record), np.random.default_rng(seed), spec)
        for name, a, b in zip(want._fields, want, got, strict=True):
            np.testing.assert_array_equal(b, a, err_msg=name)
        assert sum(read) < 0.06 * path.stat().st_size
