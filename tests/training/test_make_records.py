"""Making records: they are numbered, made once, resumable, and all of one backbone."""

import json
import os

import numpy as np
import pytest

from ldip_jax.cli.main import main
from ldip_jax.data.records import load_record, record_provenance
from ldip_jax.training import record_making as records
from ldip_jax.weights.load import Weights
from tests.training.batches import exact_work

CONFIG = ["--config", "configs/ldip_basicvsr_x4.py:debug", "--config.data.size=(32, 48)"]


def backbone_is(sha256, monkeypatch):
    backbone = Weights("seeded", "basicvsr", {}, {}, sha256, "none", [])
    monkeypatch.setattr(records, "frozen_backbone", lambda name, folder: backbone)


@pytest.fixture(autouse=True)
def no_networks(monkeypatch, pytestconfig):
    """The frozen networks are tested elsewhere and are slow to compile."""
    monkeypatch.chdir(pytestconfig.rootpath)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    backbone_is("abc", monkeypatch)
    monkeypatch.setattr(records, "frozen_networks", lambda config, run: exact_work)


def run(output, count, *flags):
    return main(["records", "--output", str(output), "--count", str(count), *CONFIG, *flags])


def test_records_are_numbered_and_existing_ones_are_kept(tmp_path):
    assert run(tmp_path / "whole", 4) == 0
    assert run(tmp_path / "parts", 2) == 0
    kept = (tmp_path / "parts" / "000001.safetensors").stat()
    (tmp_path / "parts" / "000000.safetensors").unlink()
    assert run(tmp_path / "parts", 4) == 0
    assert (tmp_path / "parts" / "000001.safetensors").stat().st_mtime_ns == kept.st_mtime_ns
    files = sorted(path.name for path in (tmp_path / "whole").glob("*.safetensors"))
    assert files == [f"{number:06d}.safetensors" for number in range(4)]
    for name in files:
        for a, b in zip(
            load_record(tmp_path / "whole" / name), load_record(tmp_path / "parts" / name), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    clips = {record_provenance(tmp_path / "whole" / name)["clip"] for name in files}
    assert len(clips) == 4
    # Only the clip's name, by which held-out clips are recognised.
    assert all(clip.startswith("synthetic/") and " " not in clip for clip in clips)


def test_processes_that_share_the_work_make_the_same_records(tmp_path, capsys):
    assert run(tmp_path / "whole", 5) == 0
    for index in (1, 0, 2, 1):
        assert run(tmp_path / "parts", 5, f"--part={index}/3") == 0
    whole, parts = (sorted((tmp_path / name).glob("*.safetensors")) for name in ("whole", "parts"))
    assert [file.name for file in parts] == [file.name for file in whole]
    for a, b in zip(whole, parts, strict=True):
        assert record_provenance(a) == record_provenance(b)
        for one, other in zip(load_record(a), load_record(b), strict=True):
            np.testing.assert_array_equal(one, other)
    for wrong in ("3/3", "1", "a/2"):
        with pytest.raises(SystemExit, match="2"):
            run(tmp_path, 5, f"--part={wrong}")
        assert "invalid" in capsys.readouterr().err


def test_another_seed_makes_other_records(tmp_path):
    for seed in "01":
        assert run(tmp_path / seed, 1, f"--config.seed={seed}") == 0
    first, second = (load_record(tmp_path / seed / "000000.safetensors") for seed in "01")
    assert first.hr.shape != second.hr.shape or (first.hr != second.hr).any()


def test_records_of_another_backbone_are_not_mixed_in(tmp_path, monkeypatch, capsys):
    assert run(tmp_path, 1) == 0
    backbone_is("def", monkeypatch)
    assert run(tmp_path, 2) == 2
    assert "another backbone" in capsys.readouterr().err


def test_damaged_records_differ_only_in_their_input_and_are_marked(tmp_path, capsys):
    assert run(tmp_path / "clean", 2) == 0
    damaged = ["--config.data.input.h264=1", "--config.data.reference_jitter.share=1"]
    assert run(tmp_path / "damaged", 2, *damaged) == 0
    for number in range(2):
        name = f"{number:06d}.safetensors"
        clean, other = (load_record(tmp_path / kind / name) for kind in ("clean", "damaged"))
        for field, a, b in zip(clean._fields, clean, other, strict=True):
            if field == "lr_references":
                assert a is None
                assert b.shape[1:3] == clean.lr.shape[1:3]
            elif field in ("lr", "references"):
                assert (a != b).any(), field
            else:
                np.testing.assert_array_equal(a, b, err_msg=field)
        clean, other = (record_provenance(tmp_path / kind / name) for kind in ("clean", "damaged"))
        assert (clean["input"], clean["damage"]) == ("clean", "")
        assert other["input"].startswith("h264 crf ")
        assert set(json.loads(other["damage"])) == {"input", "reference_jitter"}
    # Neither kind is taken for the other.
    capsys.readouterr()
    assert run(tmp_path / "clean", 3, *damaged) == 2
    assert run(tmp_path / "damaged", 3) == 2
    assert capsys.readouterr().err.count("choose another --output") == 2
    assert run(tmp_path / "damaged", 3, *damaged) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.data.sise=4"], "sise"),
        (["--colour=red"], "colour"),
        (["--count", "0"], "--count 0"),
        (["--config", "configs/none.py"], "configs/none.py"),
        (["--config", "configs/ldip_basicvsr_x4.py:cheap"], "cheap"),
        (["--config.data.clip=40"], "data.clip is 40"),
        (["--config.data.input.h264=2"], "config.data.input.h264=2"),
        (["--config.data.input.crf=(40., 20.)"], "config.data.input.crf=(40.0, 20.0)"),
    ],
)
def test_bad_flags_are_reported_in_one_line(tmp_path, capsys, flags, message):
    assert run(tmp_path, 1, *flags) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
