"""`ldip compare` from the command line: table, JSON file, and errors for invalid input."""

import argparse
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ldip_jax.cli import compare
from ldip_jax.errors import InputError
from ldip_jax.evaluation import metrics
from ldip_jax.evaluation.metrics import frame_metrics


def write_clip(folder, frames):
    folder.mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{index:08d}.png")
    return folder


def frames(rng, n=3, h=20, w=32):
    return [rng.integers(0, 256, (h, w, 3), np.uint8) for _ in range(n)]


def call(*words, lpips=False):
    parser = argparse.ArgumentParser()
    compare.add_parser(parser.add_subparsers())
    args = parser.parse_args(["compare", *map(str, words), *([] if lpips else ["--no-lpips"])])
    return args.run(args)


def test_table_and_json_agree_with_the_metrics(rng, tmp_path, capsys):
    first, second = frames(rng), frames(rng)
    a, b = write_clip(tmp_path / "a", first), write_clip(tmp_path / "b", second)
    assert call(a, b, "--json", tmp_path / "scores.json") == 0
    result = json.loads((tmp_path / "scores.json").read_text())
    assert list(result["average"]) == ["psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "lpips_alex"]
    assert result["average"]["lpips_alex"] is None
    expected = [
        frame_metrics(x / np.float32(255), y / np.float32(255)) for x, y in zip(first, second, strict=True)
    ]
    for key in ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"):
        values = [frame[key] for frame in result["frames"]]
        assert values == pytest.approx([scores[key] for scores in expected], abs=1e-6)
        assert result["average"][key] == pytest.approx(np.mean(values))
    assert [frame["name"] for frame in result["frames"]] == ["00000000.png", "00000001.png", "00000002.png"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    for line, scores in zip(lines[1:5], [*expected, result["average"]], strict=True):
        assert f"{scores['psnr_y']:.4f}" in line
        assert f"{scores['ssim_rgb']:.4f}" in line
    assert len({len(line) for line in lines[:5]}) == 1


def test_equal_clips_give_valid_json(rng, tmp_path, capsys):
    a = write_clip(tmp_path / "a", frames(rng, 2))
    target = tmp_path / "scores.json"
    target.write_text("an earlier result")
    assert call(a, a, "--json", target) == 0

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    average = json.loads(target.read_text(), parse_constant=refuse)["average"]
    assert average["psnr_y"] == average["psnr_rgb"] == 100.0
    assert average["ssim_y"] == 1.0
    assert "means that value or more" in capsys.readouterr().out


def test_tiny_frames_have_no_ssim_and_a_note_says_so(rng, tmp_path, capsys):
    a, b = write_clip(tmp_path / "a", frames(rng, 1, 8, 8)), write_clip(tmp_path / "b", frames(rng, 1, 8, 8))
    assert call(a, b, "--json", tmp_path / "scores.json") == 0
    result = json.loads((tmp_path / "scores.json").read_text())
    assert result["frames"][0]["ssim_y"] is result["average"]["ssim_rgb"] is None
    assert result["average"]["psnr_y"] > 0
    assert "under 11 pixels" in capsys.readouterr().out


def test_lpips_is_computed_with_weights_that_are_fetched_only_for_comparable_clips(
    rng, tmp_path, monkeypatch, capsys
):
    a, b = (write_clip(tmp_path / name, frames(rng, 2, 31, 40)) for name in "ab")
    asked = []

    def load(*, progress):
        asked.append(progress)
        return lambda x, y: float(abs(x - y).mean())

    monkeypatch.setattr(metrics, "load_lpips", load)
    with pytest.raises(InputError, match="can be compared"):
        call(a, write_clip(tmp_path / "c", frames(rng, 1)), lpips=True)
    assert not asked
    assert call(a, b, "--json", tmp_path / "scores.json", lpips=True) == 0
    result = json.loads((tmp_path / "scores.json").read_text())
    values = [frame["lpips_alex"] for frame in result["frames"]]
    assert values[0] != values[1]
    assert result["average"]["lpips_alex"] == pytest.approx(np.mean(values))
    assert f"{values[0]:.4f}" in capsys.readouterr().out.splitlines()[1]


def test_without_weights_lpips_is_null_and_one_line_says_why(rng, tmp_path, monkeypatch, capsys):
    a = write_clip(tmp_path / "a", frames(rng, 1))

    def load(*, progress):
        raise InputError("lpips-alex: cannot be fetched (no network)")

    monkeypatch.setattr(metrics, "load_lpips", load)
    assert call(a, a, "--json", tmp_path / "scores.json", lpips=True) == 0
    assert json.loads((tmp_path / "scores.json").read_text())["average"]["lpips_alex"] is None
    assert capsys.readouterr().err == "LPIPS is left out: lpips-alex: cannot be fetched (no network)\n"


def test_clips_of_different_size_or_length_are_refused(rng, tmp_path):
    a = write_clip(tmp_path / "a", frames(rng, 2))
    for name, other in (("size", frames(rng, 2, 32, 20)), ("length", frames(rng, 3))):
        b = write_clip(tmp_path / name, other)
        with pytest.raises(InputError, match="can be compared") as caught:
            call(a, b, "--json", tmp_path / "scores.json")
        assert str(a) in str(caught.value)
        assert str(b) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "scores.json").exists()


def test_a_json_file_that_cannot_be_written_is_refused_before_any_work(rng, tmp_path, capsys):
    a = write_clip(tmp_path / "a", frames(rng, 1))
    precious = tmp_path / "clip.mp4"
    precious.write_bytes(b"video")
    for target, reason in (
        (a, "is a folder"),
        (tmp_path / "no" / "x.json", "is not an existing folder; create it first"),
        (precious, "kept"),
        ("/proc/x.json", "cannot be written"),
    ):
        with pytest.raises(InputError, match=reason):
            call(a, a, "--json", target)
    assert precious.read_bytes() == b"video"
    assert capsys.readouterr().out == ""


def test_a_missing_clip_is_named(rng, tmp_path):
    a = write_clip(tmp_path / "a", frames(rng, 1))
    with pytest.raises(InputError, match=r"missing\.mp4"):
        call(a, tmp_path / "missing.mp4")


def test_the_parser_is_built_without_jax():
    code = "import sys, ldip_jax.cli.compare; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
