"""Columns by how they propagate, and gains in the files, the report and the benchmark."""

import csv
import importlib.util
import json
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from ldip_jax.evaluation import runner, variant_upscalers
from ldip_jax.evaluation.clip_result import FrameScore, ScoredClip
from ldip_jax.evaluation.scores import ClipScore
from ldip_jax.media.color import as_float
from ldip_jax.weights.export import read_export, save_export

# By column, for frames 2 to 6, of which the first and the last are key-frames.
GAINS = {
    "backbone": [0.0] * 5,
    "full": [2.0, 1.0, 0.5, 1.5, 2.0],
    "full, hrip": [2.0, 1.0, -0.25, -0.5, 2.0],
    "w/o ref": [0.0, -0.01, -0.02, -0.06, 0.04],
}


@pytest.fixture(scope="module")
def load_once():
    """Reads and checks weights only once for all tests of this file."""
    load = cache(variant_upscalers.load_model)
    return lambda *names, native, progress: load(*names, native=native)


@pytest.fixture
def calls(monkeypatch, load_once):
    """Replaces networks: gains over 30 dB are known. Lists the calls in order."""
    calls = []

    def stand_in(title, footage, lr_frames, selection, stills, upscaler, _, *, lpips, temporal, on_frame):
        column = title.split(", x4, ")[1]
        frames = []
        truths = footage.hr_frames(selection.scored)
        for place, (frame, truth) in enumerate(zip(selection.scored, truths, strict=True)):
            gain = GAINS[column][place % len(GAINS[column])]
            score = ClipScore(*[0.5] * len(fields(ClipScore)))
            frames.append(FrameScore(frame, replace(score, psnr_y=30.0 + gain)))
            if on_frame is not None:
                on_frame(frame, as_float(truth))
        calls.append(SimpleNamespace(title=title, stills=stills, upscaler=upscaler))
        key_frames = [selection.scored[0], selection.scored[-1]] if upscaler.model.refined else []
        return ScoredClip(frames=frames, key_frames=key_frames, seconds=1.0)

    monkeypatch.setattr(runner, "score_clip", stand_in)
    monkeypatch.setattr(variant_upscalers, "load_model", load_once)
    return calls


@pytest.fixture
def table5(evaluate, networks):
    """Runs `ldip eval` by the Table 5 protocol with trained weights."""
    return lambda *words: evaluate("--protocol", "table5", "--checkpoint", networks.trained, *words)


def done(calls, clip="one"):
    """The columns that were run on a clip since the last check, with their propagation."""
    found = {
        call.title.removeprefix(f"{clip}, x4, "): call.upscaler.propagation
        for call in calls
        if call.title.startswith(f"{clip}, ")
    }
    calls.clear()
    return found


def results():
    return json.loads(Path("out/results.json").read_text())


def gains():
    (scale,) = results()["scales"]
    return {column["name"]: column["gain"] for column in scale["columns"]}


def test_the_papers_propagation_is_a_column_next_to_another_one(table5, calls):
    assert table5("--propagation", "carry").code == 0
    stills = {call.title: [still.name for still in call.stills] for call in calls}
    assert stills["one, x4, full, hrip"] == stills["one, x4, full"] == ["one-00000000", "one-00000007"]
    assert done(calls) == {"backbone": None, "full": "carry", "full, hrip": "hrip", "w/o ref": "carry"}
    # With another propagation, only the columns that it changes are run again.
    assert table5("--propagation", "both").code == 0
    assert done(calls) == {"full": "both", "w/o ref": "both"}
    result = table5("--propagation", "hrip")
    assert result.code == 0
    assert done(calls) == {"full": "hrip", "w/o ref": "hrip"}
    assert result.out.count("Left out because other columns propagate detail in this way: full, hrip.") == 1
    assert list(gains()) == ["backbone", "full", "w/o ref"]
    # The weights were trained with it, so it is also the default.
    assert table5().code == 0
    assert done(calls) == {}


def test_the_default_propagation_is_that_of_the_weights(evaluate, networks, calls):
    export = read_export(networks.trained)
    config = {**export.config, "propagation": "carry", "hrip_reach": 0}
    save_export("carried.safetensors", replace(export, config=config))
    assert evaluate("--protocol", "table5", "--checkpoint", "carried.safetensors").code == 0
    assert done(calls) == {"backbone": None, "full": "carry", "full, hrip": "hrip", "w/o ref": "carry"}
    (scale,) = results()["scales"]
    reported = {column["name"]: column["clips"][0]["propagation"] for column in scale["columns"]}
    assert reported == {"backbone": None, "full": "carry", "full, hrip": "hrip", "w/o ref": "carry"}


def test_a_column_that_repeats_another_is_refused(table5, calls):
    result = table5("--columns", "full, hrip")
    assert result.code == 2
    assert result.err.splitlines()[-1].startswith(
        "ldip: --columns full, hrip: other columns propagate detail so already"
    )
    assert not calls


def test_files_and_report_have_gains(table5, calls):
    result = table5("--propagation", "carry", "--temporal")
    assert result.code == 0
    found = gains()
    assert found["backbone"] is None
    assert found["full"]["mean"] == pytest.approx(1.4)
    assert [(row["distance"], row["frames"]) for row in found["full"]["reach"]] == [(0, 4), (1, 4), (2, 2)]
    assert [row["gain"] for row in found["full"]["reach"]] == pytest.approx([2.0, 1.25, 0.5])
    assert found["full, hrip"]["worst"] == {"clip": "one", "frame": 5, "gain": pytest.approx(-0.5)}
    assert found["full, hrip"]["frames_worse"] == 4
    assert found["w/o ref"]["relative_pulsing"] is None

    markdown = Path("out/results.md").read_text()
    reported = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines()]
    (full, hrip) = (row for row in reported if row[:2] in (["full", "carry"], ["full, hrip", "hrip"]))
    assert full[2:] == ["+1.400", "-", "0.583", "0.416", "+0.500", "one, frame 4", "0 of 10"]
    assert hrip[2] == "+0.850"
    assert hrip[6:] == ["-0.500", "one, frame 5", "4 of 10"]
    assert ["2", "2", "+0.500", "-0.250", "-0.020"] in reported
    (head,) = (row for row in reported if row[:1] == ["clip"])
    assert [cell for cell in head if "tOF" in cell] == [f"{column}: tOF" for column in GAINS]

    rows = list(csv.DictReader(Path("out/results.csv").read_text().splitlines()))
    full = {(row["clip"], row["frame"]): row for row in rows if row["column"] == "full"}
    assert (full["one", "4"]["gain"], full["one", "4"]["key_distance"]) == ("0.500000", "2")
    assert full["one", "4"]["pulsing"] == full["one", "mean"]["key_distance"] == ""
    assert float(full["two", "mean"]["gain"]) == pytest.approx(1.4)
    assert (full["mean", "mean"]["worst_gain"], full["mean", "mean"]["frames_worse"]) == ("0.500000", "0")
    assert float(full["mean", "mean"]["pulsing"]) == pytest.approx(found["full"]["pulsing"], abs=1e-6)
    assert {row["gain"] for row in rows if row["column"] == "backbone"} == {""}

    page = Path("out/report.html").read_text()
    (plot,) = (part for part in page.split("<section")[1:] if "how far the gain reaches" in part)
    assert plot.count("<polyline") == len(GAINS)
    for column in GAINS:
        assert f"</span>{column} <b" in plot
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    (reach,) = (curves for name, curves in data["curves"].items() if name != "curves")
    assert reach["places"] == [0, 1, 2]
    assert reach["values"]["0"] == [0.0, 0.0, 0.0]
    assert reach["values"]["2"] == pytest.approx([2.0, 0.25, -0.25])
    assert "pulsing / gain" in page
    assert page.count("Pulsing: the standard deviation") == markdown.count("Pulsing: the standard dev") == 1


def test_without_the_backbone_gains_are_missing_and_noted_once(table5, calls):
    result = table5("--columns", "full", "w/o ref")
    assert result.code == 0
    note = "Gains over the backbone are missing because that column was not run."
    assert result.out.count(note) == Path("out/report.html").read_text().count(note) == 1
    assert gains() == {"full": None, "w/o ref": None}
    assert "pulsing" not in result.out
    assert "how far the gain reaches" not in Path("out/report.html").read_text()
    assert note not in table5().out


def test_some_of_the_clips(table5, evaluate, networks, calls, clips):
    assert table5("--clips", "two").code == 0
    assert done(calls, "two") == {"backbone": None, "full": "hrip", "w/o ref": "hrip"}
    assert results()["scales"][0]["averaged"] == ["two"]
    assert table5("--clips", "two", "one", "--report-clip", "two").code == 0
    assert {call.title.split(",")[0] for call in calls} == {"one"}
    assert evaluate("--clips", "one", "--report-clip", "two", "--output", "other").code == 2


@pytest.fixture
def benchmark(evaluate, networks, clips, calls):
    """Runs `benchmarks/propagation.py` on the two clips; returns its exit code."""
    path = Path(__file__).parents[2] / "benchmarks" / "propagation.py"
    spec = importlib.util.spec_from_file_location("propagation_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    words = ["--data", clips, "--protocol", "table5", "--output", "out", "--backbone", networks.backbone]
    words += ["--checkpoint", networks.trained, "--matcher", "flow", "--no-lpips"]
    return lambda *more: module.main([str(word) for word in (*words, *more)])


@pytest.mark.parametrize(
    ("bounds", "code", "message"),
    [
        ([], 0, "all bounds are met"),
        (["--least-gain", "1.39", "--most-loss", "0"], 0, "all bounds are met"),
        (["--least-gain", "1.41"], 1, "--least-gain: gain over all frames is 1.400, less than 1.41"),
        # No frame is three frames away.
        (["--least-reach", "0"], 1, "--least-reach: share kept at a distance of 3 or more is -, less than 0"),
    ],
)
def test_bounds_on_gain_and_reach(benchmark, calls, capsys, bounds, code, message):
    assert benchmark("--propagation", "carry", "--clips", "one", *bounds) == code
    assert message in capsys.readouterr().out
    assert done(calls) == {"backbone": None, "full": "carry", "full, hrip": "hrip"}


def test_bounds_on_single_frames_and_invalid_input(benchmark, monkeypatch, capsys):
    monkeypatch.setitem(GAINS, "full", [2.0, 2.0, -0.5, 1.0, 2.0])
    assert benchmark("--most-loss", "0.4") == 1
    assert "--most-loss: gain of one, frame 4 is -0.500, less than -0.4" in capsys.readouterr().out
    assert benchmark("--most-loss", "0.6", "--least-gain", "1.2") == 0
    assert benchmark("--data", "nowhere") == 2
    assert benchmark("--checkpoint", "none") == 2
    assert "no gains of full to judge" in capsys.readouterr().err
