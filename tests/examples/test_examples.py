"""The scripts of `examples/`, with tiny random networks instead of published weights."""

import importlib
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.networks import HR, LR, write_networks

FOLDER = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    return write_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def run(networks, monkeypatch, capsys):
    """Runs a script by its name; returns what it prints."""
    monkeypatch.syspath_prepend(str(FOLDER))
    flags = ["--backbone", networks.backbone, "--lrrf", networks.trained, "--size", *LR, "--frames", 5]

    def run(name, *more):
        importlib.import_module(name).main([*map(str, flags), *map(str, more)])
        return capsys.readouterr().out

    return run


def test_every_script_is_tested():
    shared = {"scene", "flags"}
    # train_debug takes minutes, so a CI job runs it.
    tested = {"export_program", "features_and_stages", "frames_to_frames", "own_matcher", "train_debug"}
    assert {path.stem for path in FOLDER.glob("*.py")} == shared | tested


def test_frames_to_frames(run):
    output = run("frames_to_frames")
    assert len(re.findall(r"\d+\.\d\d dB", output)) == 2
    assert "key-frame 0: ref0" in output


def test_features_and_stages(run):
    output = run("features_and_stages")
    assert "(1, 32, 40, 64)" in output
    assert "(1, 32, 40, 3)" in output
    changed = re.search(r"Ref-Fusion: +(\S+)", output)
    assert changed is not None
    assert float(changed[1]) > 0


def test_own_matcher(run):
    output = run("own_matcher")
    backbone, matched = re.findall(r"(\S+) dB", output)
    assert backbone != matched
    assert "key-frames:       0, 4" in output


def test_export_program(run, tmp_path):
    pytest.importorskip("flatbuffers")
    output = run("export_program", tmp_path)
    gaps = [float(gap) for gap in re.findall(r"differs by (\S+)", output)]
    assert len(gaps) == 2
    assert max(gaps) < 1e-5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decode.jaxexport", "step.jaxexport"]


def test_the_notebook_makes_a_picture(networks, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    cells = json.loads((FOLDER / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    values: dict[str, object] = {}
    for cell in cells:
        assert not cell.get("outputs"), "strip the outputs"
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {cell['id']}", "exec"), values)
        if "parameters" in cell["metadata"].get("tags", []):
            values |= {"BACKBONE": networks.backbone, "LRRF": networks.trained, "MATCHER": "flow"}
            values |= {"FRAMES": 5, "SIZE": LR}
    output = capsys.readouterr().out
    assert len(re.findall(r"\d+\.\d\d dB", output)) == 2
    assert "frame 4: ref1 matches" in output
    picture = values["picture"]
    assert isinstance(picture, Image.Image)
    assert picture.size == (4 * HR[1], HR[0])
