"""A short run of `benchmarks/hostile_files.py`: every kind of reader, and the writer with sound."""

import importlib.util
from pathlib import Path

import pytest

from ldip_jax.errors import InputError

PATH = Path(__file__).parents[1] / "benchmarks" / "hostile_files.py"


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("hostile_files", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["png", "tif", "avif", "webp", "mp4", "mkv", "ts", "safetensors", "pth"])
def test_every_file_gives_a_result_or_one_line(program, kind):
    counts, failures = program.run_kind(kind, cases=6, seed=7, memory=None)
    assert failures == []
    assert counts["read"] >= 1
    assert counts["read"] + counts["refused"] >= 7
    assert counts["failed"] == 0


def test_what_counts_as_a_failure(program, capsys, monkeypatch):
    def fail(error):
        raise error

    assert program.outcome(lambda: None) == "read"
    assert program.outcome(lambda: fail(InputError("a: is none; get it again"))) == "refused"
    assert "several lines" in program.outcome(lambda: fail(InputError("a\nb")))
    assert "KeyError" in program.outcome(lambda: fail(KeyError("a")))
    monkeypatch.setattr(program, "__file__", "/nonexistent.py")
    counts, failures = program.run_kind("png", cases=1, seed=0, memory=None)
    assert counts["failed"] >= 1
    assert "the process ended with 2" in failures[0]
