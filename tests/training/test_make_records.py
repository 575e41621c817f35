"""Records made once: numbered, resumable, of one backbone."""

import numpy as np
import pytest

from ldip_jax.data.prepare import main
from ldip_jax.data.records import load_record, record_provenance
from ldip_jax.training import make_records
from ldip_jax.weights.load import Weights
from tests.training.batches import exact_work

# How ml_collections loads a file on Python 3.11.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
CONFIG = ["--config", "configs/ldip_basicvsr_x4.py:debug", "--config.data.size=(32, 48)"]


def backbone_is(sha256, monkeypatch):
    backbone = Weights("seeded", "basicvsr", {}, {}, sha256, "none", [])
    monkeypatch.setattr(make_records, "frozen_backbone", lambda name, folder: backbone)


@pytest.fixture(autouse=True)
def no_networks(monkeypatch, pytestconfig):
    """The frozen networks' part is tested elsewhere, and takes long to compile."""
    monkeypatch.chdir(pytestconfig.rootpath)
    backbone_is("abc", monkeypatch)
    monkeypatch.setattr(make_records, "frozen_work", lambda config, run: exact_work)


def run(output, count, *flags):
    return main(["records", "--output", str(output), "--count", str(count), *CONFIG, *flags])


def test_records_are_numbered_and_what_is_there_stays(tmp_path):
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
    # The clip's name alone, by which held-out clips are known.
    assert all(clip.startswith("synthetic/") and " " not in clip for clip in clips)


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


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.data.sise=4"], "sise"),
        (["--colour=red"], "colour"),
        (["--count", "0"], "--count 0"),
        (["--config", "configs/none.py"], "configs/none.py"),
        (["--config", "configs/ldip_basicvsr_x4.py:cheap"], "cheap"),
        (["--config.data.clip=40"], "data.clip is 40"),
    ],
)
def test_bad_flags_are_told_in_one_line(tmp_path, capsys, flags, message):
    assert run(tmp_path, 1, *flags) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
