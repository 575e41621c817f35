"""Coded clips and altered references: what goes in, what it is scored against, what is reported."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldip_jax.data.alterations import blur, exposure, parse_alteration
from ldip_jax.data.codecs import h264, jpeg, parse_codec
from ldip_jax.data.degradation import antialiased, bi
from ldip_jax.evaluation.command import default_output
from ldip_jax.evaluation.scores import ALWAYS, average, score_frames
from ldip_jax.media.color import as_float
from ldip_jax.ops.imresize import imresize
from tests.networks import HR, LR


def truth(clips, name="one"):
    return [np.asarray(Image.open(path)) for path in sorted((clips / name).iterdir())]


def low(clips):
    return [bi(frame, LR) for frame in truth(clips)]


def results(folder="out"):
    return json.loads((Path(folder) / "results.json").read_text())


def test_the_whole_clip_is_encoded_before_frames_are_selected(evaluate, calls, clips):
    words = ("--protocol", "table5", "--columns", "backbone")
    assert evaluate(*words, "--input-codec", "h264:23").code == 0
    coded = list(h264(low(clips), 23.0))
    assert calls[0].low == [frame.mean() for frame in coded[2:7]]
    assert calls[0].low != [frame.mean() for frame in h264(low(clips)[2:7], 23.0)]


def test_the_coded_clip_is_what_is_mirrored(evaluate, calls, clips):
    assert evaluate("--protocol", "bi-x4-mirror", "--input-codec", "h264:23").code == 0
    coded = [frame.mean() for frame in h264(low(clips), 23.0)]
    assert calls[0].low == [*coded, *reversed(coded)]


def test_lr_clips_from_the_user_are_encoded_too(evaluate, calls, clips, tmp_path):
    for name in ("one", "two"):
        (tmp_path / "lr" / name).mkdir(parents=True)
        for number, frame in enumerate(low(clips)):
            Image.fromarray(255 - frame).save(tmp_path / "lr" / name / f"{number:08d}.png")
    assert evaluate("--lr-dir", tmp_path / "lr", "--input-codec", "jpeg:60").code == 0
    assert calls[0].low == [jpeg(255 - frame, 60).mean() for frame in low(clips)]


def test_scores_are_against_the_clean_ground_truth(evaluate, clips):
    words = ("--protocol", "savsr", "--scale", "4", "--columns", "bicubic")
    assert evaluate(*words, "--input-codec", "h264:30").code == 0
    (column,) = results()["scales"][0]["columns"]
    coded = h264([antialiased(frame, LR) for frame in truth(clips)], 30.0)
    images = [np.clip(imresize(as_float(frame), size=HR), 0.0, 1.0) for frame in coded]
    expected = average(score_frames(images, [as_float(frame) for frame in truth(clips)]))
    assert column["clips"][0]["average"] == pytest.approx(expected.named(ALWAYS), abs=1e-4)


def test_only_references_are_altered_and_in_order(evaluate, calls, networks, clips):
    words = ("--protocol", "table5", "--checkpoint", networks.trained, "--clips", "one")
    assert evaluate(*words, "--output", "plain").code == 0
    alter = ("--ref-alter", "exposure:1.5", "--ref-alter", "blur:2")
    assert evaluate(*words, *alter).code == 0
    half = len(calls) // 2
    assert [call.title for call in calls[:half]] == [call.title for call in calls[half:]]
    assert [call.low for call in calls[:half]] == [call.low for call in calls[half:]]
    (full,) = (call for call in calls[half:] if call.title == "one, x4, full")
    assert [still.name for still in full.stills] == ["one-00000000", "one-00000007"]
    frames = truth(clips)
    for still, frame in zip(full.stills, (frames[0], frames[-1]), strict=True):
        np.testing.assert_array_equal(still.image, as_float(blur(exposure(frame, 1.5), 2.0)))


def test_another_number_of_references(evaluate, calls, networks):
    words = ("--protocol", "table5", "--checkpoint", networks.trained, "--clips", "one")
    assert evaluate(*words, "--columns", "full", "--hr-refs", "1").code == 0
    assert [still.name for still in calls[-1].stills] == ["one-00000000"]
    # Frames 2 to 6 are upscaled.
    assert evaluate(*words, "--columns", "full", "--hr-refs", "3").code == 0
    assert [still.name for still in calls[-1].stills] == ["one-00000000", "one-00000001", "one-00000007"]
    assert results()["hr_refs"] == 3
    assert results()["scales"][0]["published"] == []
    assert "references in HR" in Path("out/results.md").read_text()
    done = len(calls)
    assert evaluate(*words, "--columns", "full", "--hr-refs", "3").code == 0
    assert len(calls) == done
    result = evaluate(*words, "--columns", "full", "--hr-refs", "4")
    assert result.code == 2
    assert "one is skipped: its 3 frames that are not upscaled are too few for 4 references" in result.err


def test_settings_are_named_in_all_files(evaluate, calls, networks):
    words = ("--protocol", "table5", "--checkpoint", networks.trained)
    assert evaluate(*words, "--input-codec", "h264:23.0", "--ref-alter", "white:1.10,1,0.85").code == 0
    found = results()
    assert found["input_codec"] == "h264:23"
    assert found["ref_alter"] == ["white:1.1,1,0.85"]
    for text in (Path("out/results.md").read_text(), Path("out/report.html").read_text()):
        assert "h264:23 (libx264, preset medium, GOP 250, yuv420p, 25 frames per second)" in text
        assert "white:1.1,1,0.85" in text
    # Published figures are for clean clips and unaltered references.
    assert found["scales"][0]["published"] == []


def test_results_of_other_settings_are_not_reused(evaluate, calls, networks):
    words = ("--protocol", "table5", "--checkpoint", networks.trained, "--columns", "backbone", "full")
    assert evaluate(*words).code == 0
    assert results()["input_codec"] is None
    done = len(calls)
    # References matter only to the columns that use them.
    assert evaluate(*words, "--ref-alter", "mirror").code == 0
    assert [call.title for call in calls[done:]] == ["one, x4, full", "two, x4, full"]
    done = len(calls)
    assert evaluate(*words, "--ref-alter", "mirror", "--input-codec", "h264:23").code == 0
    assert len(calls) == done + 4
    assert evaluate(*words, "--ref-alter", "mirror", "--input-codec", "h264:23").code == 0
    assert len(calls) == done + 4
    # A process with other settings does not fill in missing results.
    result = evaluate(*words, "--input-codec", "h264:24", "--shard", "0/2")
    assert "results are missing yet" in result.out
    assert {clip["name"] for clip in results()["scales"][0]["columns"][0]["clips"]} == {"one"}


def test_each_setting_has_its_own_folder_by_default():
    altered = [parse_alteration("white:1.1,1,0.85"), parse_alteration("mirror")]
    names = [
        default_output("vid4", "near", codec, alterations).name
        for codec in (None, parse_codec("h264:23"))
        for alterations in ([], altered, altered[::-1])
    ]
    assert names[0] == "vid4-near"
    assert names[4] == "vid4-near-h264-23-white-1.1,1,0.85-mirror"
    assert len(set(names)) == 6
    assert default_output("vid4", "near", None, [], 5).name == "vid4-near-5-refs"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input-codec", "h265:23"], "'h265:23': no such codec; choose h264:CRF"),
        (["--input-codec", "h264:99"], "'h264:99': h264 takes a rate factor from 0 to 51"),
        (["--ref-alter", "sharpen:2"], "'sharpen:2': no such alteration; choose exposure"),
        (["--ref-alter", "blur:x"], "'blur:x': blur takes a number from"),
        (
            ["--ref-alter", "mirror"],
            "--ref-alter mirror: no column of bi-x4 that is run has references",
        ),
        (["--hr-refs", "1"], "--hr-refs 1: no column of bi-x4 that is run has references"),
        (["--hr-refs", "0", "--protocol", "near"], "argument --hr-refs: "),
        (
            ["--hr-refs", "3", "--protocol", "figure6"],
            "--hr-refs 3: figure6 has its own number; choose one of table5, near",
        ),
    ],
)
def test_bad_settings_give_one_line_and_exit_code_2(evaluate, words, message):
    result = evaluate(*words)
    assert result.code == 2
    assert message in result.err
    assert result.err.splitlines()[-1].startswith(("ldip: ", "ldip eval: error: "))
