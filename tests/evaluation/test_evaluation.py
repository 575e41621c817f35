"""`ldip eval` from end to end: numbers, resumption, shards, and errors for invalid input."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ldip_jax
from ldip_jax.data.degradation import DEGRADATIONS, bi
from ldip_jax.evaluation import runner
from ldip_jax.evaluation.scores import ALWAYS, average, score_frames
from ldip_jax.media.color import as_float
from ldip_jax.media.images import read_image
from ldip_jax.ops.imresize import imresize
from tests.evaluation.conftest import COUNT, write_clip
from tests.networks import HR, LR


def results(folder="out"):
    return json.loads((Path(folder) / "results.json").read_text())


def columns(folder="out"):
    """Column -> clip -> results, without seconds."""
    (scale,) = results(folder)["scales"]
    return {
        column["name"]: {clip.pop("name"): {**clip, "seconds": None} for clip in column["clips"]}
        for column in scale["columns"]
    }


def test_table_5_from_a_config_and_a_training_run(evaluate, networks, clips, tmp_path):
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    shutil.copy(networks.trained, run / "export.safetensors")
    config = tmp_path / "config.py"
    config.write_text(
        "from types import SimpleNamespace\n"
        "def get_config(arg):\n"
        f"    return SimpleNamespace(backbone={str(networks.backbone)!r}, matcher=arg)\n"
    )
    result = evaluate(
        "--protocol", "table5", "--config", f"{config}:flow", "--checkpoint", run, "--ref-threshold", "0"
        , "--backbone", "", "--matcher", ""
    )  # fmt: skip
    assert result.code == 0
    assert "Left out because there are no weights for it: w/o ICA." in result.out
    assert "Left out because other columns propagate detail in this way: full, hrip." in result.out
    found = results()
    (scale,) = found["scales"]
    assert [column["name"] for column in scale["columns"]] == ["backbone", "full", "w/o ref"]
    assert scale["published"][0] == {
        "method": "MRefSR (quoted, not re-run)",
        "psnr": 30.98,
        "ssim": None,
        "lpips": 0.172,
        "source": "Table 5 of the paper: REDS, BasicVSR++",
    }
    for column in scale["columns"]:
        for clip in column["clips"]:
            assert [frame["frame"] for frame in clip["frames"]] == list(range(2, 7))
        means = [clip["average"]["psnr_y"] for clip in column["clips"]]
        assert column["average"]["psnr_y"] == pytest.approx(np.mean(means))

    backbone, full, without = (scale["columns"][i]["clips"][0] for i in range(3))
    # The backbone's numbers are those of the Python API on the same frames.
    truth = [np.asarray(Image.open(clips / "one" / f"{i:08d}.png")) for i in range(2, 7)]
    low = np.stack([bi(frame, LR) for frame in truth])
    frames = ldip_jax.upscale(low, backbone=networks.backbone, lrrf="none")
    expected = average(score_frames(frames, [x / np.float32(255) for x in truth]))
    assert backbone["average"] == pytest.approx(expected.named(ALWAYS))
    # References make a difference, and only the column that has some uses them.
    assert full["stills"] == ["one-00000000", "one-00000007"]
    used = [choice for choices in full["references"].values() for choice in choices if choice["used"]]
    assert {choice["name"] for choice in used if not choice["own"]} == set(full["stills"])
    assert without["stills"] == []
    assert [column["key_frames"] for column in (backbone, full, without)] == [[], [2, 6], [2, 6]]
    gain = full["average"]["psnr_y"] - backbone["average"]["psnr_y"]
    assert full["gain"]["mean"] == pytest.approx(gain)
    assert [row["frames"] for row in full["gain"]["reach"]] == [2, 2, 1]
    assert full["average"]["psnr_y"] != without["average"]["psnr_y"] != backbone["average"]["psnr_y"]

    rows = list(csv.DictReader(Path("out/results.csv").read_text().splitlines()))
    assert len(rows) == 3 * (2 * (5 + 1) + 1)
    (mean,) = (row for row in rows if row["column"] == "full" and row["clip"] == "mean")
    assert float(mean["psnr_rgb"]) == pytest.approx(scale["columns"][1]["average"]["psnr_rgb"], abs=1e-5)
    assert mean["lpips_alex"] == ""
    page = Path("out/report.html").read_text()
    for part in (
        "Error maps",
        "Temporal profiles",
        "Warps and confidence, full",
        "one-00000007, HR",
        'id="curves"',
    ):
        assert part in page
    read_image(next(Path("out/samples").glob("*/row.png")))


def test_an_evaluation_continues_where_it_stopped_and_repeats_nothing(evaluate, calls, monkeypatch):
    whole = runner.score_clip

    def interrupted(*args, **more):
        if calls:
            raise KeyboardInterrupt
        return whole(*args, **more)

    monkeypatch.setattr(runner, "score_clip", interrupted)
    result = evaluate()
    assert result.code == 130
    assert result.err.splitlines()[-1] == "ldip: interrupted"
    assert not Path("out/results.json").exists()
    monkeypatch.setattr(runner, "score_clip", whole)
    assert evaluate().code == 0
    assert [call.title for call in calls] == ["one, x4, backbone", "two, x4, backbone"]
    first = Path("out/results.csv").read_text()
    # A truncated result is computed again, and so is everything with another setting.
    next(Path("out/units").glob("*two*")).write_text('{"fingerprint"')
    assert evaluate().code == 0
    assert [call.title for call in calls[2:]] == ["two, x4, backbone"]
    assert Path("out/results.csv").read_text() == first
    assert evaluate("--measure", "float-y").code == 0
    assert len(calls) == 5
    assert "psnr_float-y" in Path("out/results.csv").read_text().splitlines()[0]


def test_processes_share_the_clips_automatically(evaluate, networks, clips):
    # A column without a network, which each process would have to compile.
    words = ("--protocol", "savsr", "--scale", "2.5x1.5", "--columns", "bicubic")
    assert evaluate(*words, "--output", "single").code == 0
    command = [sys.executable, "eval.py", "--dataset", "video_folder", "--data-dir", clips, "--shard", "auto"]
    command += ["--backbone", networks.backbone, "--checkpoint", "none", "--no-lpips"]
    command += ["--output", Path("out").absolute(), *words]
    # Nothing listens on the coordinator's port: processes that evaluate do not communicate.
    member = {"COORDINATOR": "127.0.0.1:1", "NUM_PROCESSES": "2"}
    processes = [
        subprocess.Popen(
            list(map(str, command)),
            cwd=Path(__file__).parents[2],
            env={**os.environ, **member, "PROCESS_ID": str(index)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert ["one, x2.5x1.5, bicubic: " in text for text in outputs] == [True, False]
    assert ["two, x2.5x1.5, bicubic: " in text for text in outputs] == [False, True]
    assert evaluate(*words).code == 0
    assert columns("out") == columns("single")


@pytest.mark.parametrize(
    ("visible", "seen"), [("4,5,6", "5"), ("GPU-a", "GPU-a"), (None, None)], ids=["several", "one", "unset"]
)
def test_each_process_takes_its_own_gpu(evaluate, calls, monkeypatch, visible, seen):
    monkeypatch.setenv("COORDINATOR", "127.0.0.1:1")
    monkeypatch.setenv("NUM_PROCESSES", "5")
    monkeypatch.setenv("PROCESS_ID", "4")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    # Neither of the two clips falls to this process.
    assert evaluate("--shard", "auto").code == 2
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == seen
    assert not calls


def test_shards_together_give_the_results_of_one_process(evaluate, calls):
    assert evaluate("--output", "whole").code == 0
    first = evaluate("--shard", "1/2")
    assert first.code == 0
    assert "1 results are missing yet" in first.out
    assert not Path("out/report.html").exists()
    assert list(columns()["backbone"]) == ["two"]
    assert evaluate("--shard", "0/2").code == 0
    assert columns() == columns("whole")
    assert Path("out/report.html").exists()
    assert len(calls) == 4


def test_damaged_clips_are_named_and_skipped_and_the_others_are_scored(evaluate, calls, clips, tmp_path):
    folder = shutil.copytree(clips, tmp_path / "clips")
    damaged = folder / "one" / "00000003.png"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    write_clip(folder / "odd", 3, 2)
    Image.new("RGB", (8, 8)).save(folder / "odd" / "00000001.png")
    result = evaluate("--data-dir", folder)
    assert result.code == 2
    assert set(results()["failures"]) == {"one", "odd"}
    assert "00000003.png" in results()["failures"]["one"]
    assert list(columns()["backbone"]) == ["two"]
    assert f"one is skipped: {damaged}" in result.err
    # Once repaired, the clip is the only one left to score.
    shutil.copy(clips / "one" / "00000003.png", damaged)
    shutil.rmtree(folder / "odd")
    assert evaluate("--data-dir", folder).code == 0
    assert list(columns()["backbone"]) == ["one", "two"]
    assert [call.title for call in calls] == ["two, x4, backbone", "one, x4, backbone"]


def test_references_from_another_clip_with_the_usual_threshold_and_without(evaluate, calls, networks):
    assert evaluate("--protocol", "unrelated", "--checkpoint", networks.trained).code == 0
    given = {call.title: (call.stills, call.upscaler) for call in calls}
    thresholds = {"w/o ref": 0.05, "unrelated": 0.05, "unrelated-0": 0.0}
    for column, threshold in thresholds.items():
        stills, upscaler = given[f"one, x4, {column}"]
        names = [] if column == "w/o ref" else ["two-00000000", "two-00000007"]
        assert [still.name for still in stills] == names
        assert upscaler._finder.rules.threshold == threshold
    assert given["two, x4, unrelated"][0][0].name == "one-00000000"
    assert not given["one, x4, backbone"][1].model.refined


def test_stills_are_calibrated_unless_used_as_given(evaluate, calls, networks):
    for flags, as_given in (((), False), (("--refs-as-given",), True)):
        calls.clear()
        result = evaluate("--protocol", "table5", "--checkpoint", networks.trained, *flags)
        assert result.code == 0
        given = {call.title: call.upscaler for call in calls}
        assert given["one, x4, full"]._finder.rules.as_given is as_given
        assert ("; stills as they are given" in result.out) is as_given


def test_figure_6_has_five_references_or_the_two_at_the_ends(evaluate, calls, networks):
    assert evaluate("--protocol", "figure6", "--checkpoint", networks.trained, "--scale", "2.5").code == 0
    given = {call.title: [still.name for still in call.stills] for call in calls}
    assert given["one, x2.5, full"] == [f"one-{frame:08d}" for frame in (0, 2, 4, 5, 7)]
    assert given["one, x2.5, full, 2"] == ["one-00000000", "one-00000007"]
    assert given["one, x2.5, w/o ref"] == given["one, x2.5, backbone"] == []


def test_the_memory_limit_is_passed_on(evaluate, calls, networks):
    words = ("--protocol", "table5", "--columns", "backbone", "full", "--checkpoint", networks.trained)
    assert evaluate("--memory", "1.5G", *words).code == 0
    assert len(calls) == 4
    assert {call.upscaler.memory for call in calls} == {3 * 2**29}


def test_too_little_memory_is_reported_with_what_is_needed(evaluate):
    result = evaluate("--memory", "64M")
    assert result.code == 2
    assert result.err.count("memory 64M: frames of ") == 2
    assert "need at least " in result.err
    assert "give a size, such as 1500M or 8G" in evaluate("--memory", "lots").err


def test_lr_frames_from_a_folder(evaluate, calls, clips, tmp_path):
    folder = tmp_path / "lr"
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        for path in sorted((clips / name).iterdir()):
            Image.fromarray(bi(np.asarray(Image.open(path)), LR)).save(folder / name / path.name)
    assert evaluate("--output", "reduced").code == 0
    assert evaluate("--lr-dir", folder).code == 0
    assert [call.low for call in calls[:2]] == [call.low for call in calls[2:]]
    (folder / "one" / "00000007.png").unlink()
    result = evaluate("--lr-dir", folder)
    assert result.code == 2
    assert results()["failures"]["one"].endswith(f"has {COUNT - 1} frames, the ground truth {COUNT}")


def test_clips_of_other_sizes_are_cropped_and_any_scale_has_its_lr_size(evaluate, calls, tmp_path):
    folder = tmp_path / "clips"
    write_clip(folder / "one", 1)
    for path in (folder / "one").iterdir():
        Image.open(path).crop((0, 0, 39, 31)).save(path)
    words = ("--data-dir", folder)
    assert evaluate(*words, "--multiple", "16").code == 0
    assert columns()["backbone"]["one"]["hr"] == [16, 32]
    assert evaluate(*words, "--output", "any", "--protocol", "savsr", "--scale", "2.5", "1.5x4").code == 0
    sizes = [
        (clip["hr"], clip["lr"])
        for scale in results("any")["scales"]
        for clip in scale["columns"][0]["clips"]
    ]
    assert sizes == [([31, 39], [12, 16]), ([31, 39], [21, 10])]


def test_any_scale_is_compared_with_bicubic_interpolation(evaluate, clips):
    words = ("--protocol", "savsr", "--scale", "2.5x1.5", "--columns", "bicubic")
    assert evaluate(*words).code == 0
    truth = [np.asarray(Image.open(path)) for path in sorted((clips / "one").iterdir())]
    low = [DEGRADATIONS["antialiased"](frame, (round(HR[0] / 2.5), round(HR[1] / 1.5))) for frame in truth]
    images = [np.clip(imresize(as_float(frame), size=HR), 0.0, 1.0) for frame in low]
    expected = average(score_frames(images, [as_float(frame) for frame in truth]))
    assert columns()["bicubic"]["one"]["average"] == pytest.approx(expected.named(ALWAYS), abs=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--protocol", "table6"], "no such protocol; there are bi-x4"),
        (["--columns", "full"], "bi-x4 has backbone, ldip"),
        (["--measure", "psnr"], "no such convention; there are basicsr-y"),
        (["--data-dir", "nowhere"], "nowhere: no such folder"),
        (["--dataset", "vid4"], "none of the clips calendar"),
        (["--checkpoint", "runs/none"], "runs/none: no such checkpoint"),
        (["--checkpoint", "."], "holds no export.safetensors"),
        (["--cross", "x.safetensors"], "x.safetensors: no such checkpoint"),
        (["--config", "no.py"], "no.py: no such config"),
        (["--matcher", "raft"], "raft: no such matcher"),
        (["--backbone", "basicvsr-red4"], "did you mean basicvsr-reds4"),
        (["--lr-dir", "nowhere"], "--lr-dir nowhere: no such folder"),
        (["--report-clip", "three"], "no such clip; there is one"),
        (["--clips", "one", "three"], "--clips three: no such clip; there is one"),
        (["--propagation", "warp"], "invalid choice: 'warp'"),
        (["--scale", "9"], "'9' is not a scale from 1 to 8"),
        (["--scale", "2.5"], "whole factors; use savsr"),
        (["--protocol", "bd-x4", "--scale", "2"], "bd-x4 is only for x4"),
        (["--shard", "2/2"], "'2/2' is not I/N"),
        (["--shard", "auto"], "--shard auto: no other processes are found; start them with srun"),
        (["--ref-threshold", "5"], "reference threshold 5: it is a share"),
        (["--key-stride", "0"], "'0' is not a whole number"),
        (["--protocol", "near"], "8 frames are too few for this protocol; it needs 32"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(evaluate, words, message):
    result = evaluate(*words)
    assert result.code == 2
    assert message in result.err
    assert result.err.splitlines()[-1].startswith(("ldip: ", "ldip eval: error: "))
    assert not Path("out/results.json").exists()


def test_files_that_are_not_configs(evaluate, tmp_path):
    config = tmp_path / "config.py"
    for text, message in (
        ("x = 1", "AttributeError: "),
        ("def get_config(", "SyntaxError: "),
        ("import no_such_module", "needs no_such_module"),
    ):
        config.write_text(text)
        result = evaluate("--config", config)
        assert result.code == 2
        assert message in result.err


def test_an_output_folder_with_other_content_is_left_untouched(evaluate):
    Path("out").mkdir()
    Path("out/precious.txt").write_text("mine")
    result = evaluate()
    assert result.code == 2
    assert "holds precious.txt" in result.err
    assert [path.name for path in Path("out").iterdir()] == ["precious.txt"]


def test_help_needs_no_jax():
    code = "import sys, ldip_jax.cli.main as f; f.build_parser(); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
