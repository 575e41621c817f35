"""`ldip upscale --memory` and `--dry-run`: what is reported first, and that nothing is written."""

import json

import pytest

from ldip_jax.inference import memory_plan
from ldip_jax.media.coding import Coding
from tests.cli.clips import random_frames, write_folder


@pytest.fixture
def clip(tmp_path, rng):
    return write_folder(tmp_path / "in", random_frames(rng, 5))


def test_a_dry_run_reports_what_a_run_needs_and_writes_only_the_report(upscale, tmp_path, clip):
    report = tmp_path / "plan.json"
    before = sorted(tmp_path.iterdir())
    done = upscale(clip, tmp_path / "out", "--dry-run", "--memory", "64G", "--json", report)
    assert done.code == 0, done.err
    assert sorted(tmp_path.iterdir()) == sorted([*before, report])
    lines = done.out.splitlines()
    assert lines[0] == f"{clip}: 5 frames, 10x8 to 40x32"
    assert lines[1:3] == [
        "windows: 1 window of at most 5 frames",
        "tiles: 1 for the backbone, 1 for references and decoding",
    ]
    assert lines[3].startswith("memory: ")
    assert " of 64G, 0M on disk" in lines[3]
    assert lines[4].startswith("time: about ")
    made = json.loads(report.read_text())
    assert made["frames"] == 5
    assert made["output_size"] == [40, 32]
    assert made["memory"] <= made["memory_allowed"] == 64 * 2**30
    assert made["seconds"] >= 0.0
    assert "exists already" in upscale(clip, tmp_path / "out", "--dry-run", "--json", report).message


def test_the_memory_of_the_video_encoder_is_planned(upscale, tmp_path, clip, monkeypatch):
    made = {}
    # This process holds the programs of other tests.
    monkeypatch.setattr(memory_plan, "resident", lambda: 300 * 2**20)
    monkeypatch.setattr(Coding, "held_bytes", lambda self, pixels, count: 2**30 if count == 5 else 0)
    for name in ("out", "out.mp4"):
        report = tmp_path / f"{name}.json"
        done = upscale(clip, tmp_path / name, "--dry-run", "--memory", "64G", "--json", report)
        assert done.code == 0, done.err
        made[name] = json.loads(report.read_text())["memory"]
    assert made["out.mp4"] == made["out"] + 2**30
    done = upscale(clip, tmp_path / "out.mp4", "--memory", "1536M")
    assert done.code == 2
    assert "1024M of these are the encoder's" in done.message


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_too_little_memory_is_reported_at_once(upscale, tmp_path, clip, words):
    done = upscale(clip, tmp_path / "out", "--memory", "64M", *words)
    assert done.code == 2
    assert done.message.startswith("ldip: memory 64M: frames of 10x8 need at least ")
    assert not (tmp_path / "out").exists()


def test_an_invalid_size_or_a_report_without_a_dry_run_is_refused(upscale, tmp_path, clip):
    assert upscale(clip, tmp_path / "out", "--memory", "lots").code == 2
    done = upscale(clip, tmp_path / "out", "--json", tmp_path / "plan.json")
    assert done.code == 2
    assert "needs --dry-run" in done.message
