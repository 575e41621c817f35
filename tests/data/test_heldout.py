"""Held-out clips: recognised by data set and name, or by what their frames show."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldip_jax.data.codecs import jpeg
from ldip_jax.data.fingerprints import fingerprints, frame_hash, shows_the_same
from ldip_jax.data.folders import find_clips
from ldip_jax.data.heldout import HeldOutClip, held_out_reason, main, read_heldout, refuse_held_out
from ldip_jax.data.packing import NO_HELD_OUT_CLIPS, prepare
from ldip_jax.data.prepared import PreparedClips
from ldip_jax.data.synthetic import SyntheticClips
from ldip_jax.errors import InputError
from ldip_jax.media.images import write_png
from tests.media.make import make_video

ROOT = Path(__file__).parents[2]
WALK = [HeldOutClip("walk", "a test set", "Vid4")]
OLD = [HeldOutClip("walk", "a test set")]


def frames_of(seed, count=8, size=(120, 160)):
    clip = SyntheticClips(size, count, seed=seed)[0]
    return [clip.frame(number) for number in range(count)]


def write_frames(folder, frames):
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        write_png(folder / f"{number:03d}.png", frame.astype(np.float32) / 255)
    return folder


def resized(frame, factor):
    height, width = frame.shape[:2]
    size = (round(width * factor), round(height * factor))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))


def fingerprint_of(source):
    (clip,) = find_clips(source, lambda: None)["train"]
    return next(fingerprints([clip]))


@pytest.mark.parametrize("name", ["Vid4/walk", "vid4/GT/Walk", "old/vid4/walk.mp4@0-99", "Vid4/walk/truth"])
def test_a_name_is_held_out_in_its_data_set(name):
    assert held_out_reason(name, WALK, "") == "a test set"
    place, _, rest = name.partition("/")
    assert held_out_reason(rest, WALK, "", place) == "a test set"


@pytest.mark.parametrize(
    "name", ["holiday/walk.mp4", "walk", "walk/Vid4x", "Vid4/sidewalk", "Vid4/walk@home"]
)
def test_the_same_name_elsewhere_is_not_held_out(name):
    assert held_out_reason(name, WALK, "") is None


@pytest.mark.parametrize("name", ["walk", "Walk", "Vid4/walk", "walk.mp4@0-99", "walk@8-9", "walk/a"])
def test_entries_of_old_lists_and_clips_of_old_data_are_recognised_by_name(name):
    for heldout, known in ((OLD, None), (OLD, ""), (WALK, None)):
        assert held_out_reason(name, heldout, known) == "a test set"


@pytest.mark.parametrize("name", ["walking", "walk2", "sidewalk/001", "a walk.mp4", "walk@home.mp4"])
def test_other_names_are_not_recognised(name):
    for heldout, known in ((OLD, None), (OLD, ""), (WALK, None)):
        assert held_out_reason(name, heldout, known) is None
    # A folder above the source is not part of the clip's name.
    assert held_out_reason(name, OLD, "", "walk") is None


def test_frames_are_recognised_after_scaling_and_coding_and_others_are_not():
    scenes = [frames_of(seed) for seed in range(6)]
    known = [" ".join(map(frame_hash, frames)) for frames in scenes]
    for index, frames in enumerate(scenes):
        for altered in (
            [jpeg(resized(frame, 0.5), 30) for frame in frames],
            [np.clip(frame * 0.8 + 10, 0, 255).astype(np.uint8) for frame in frames[3:]],
            frames[::-2],
        ):
            probe = " ".join(map(frame_hash, altered))
            assert [shows_the_same(probe, other) for other in known] == [n == index for n in range(6)]
    # Half of the frames are enough, fewer are not.
    mixed = [*known[0].split()[:3], *known[1].split()[:4]]
    assert not shows_the_same(" ".join(mixed), known[0])
    assert shows_the_same(" ".join(mixed), known[1])


def test_plain_frames_are_not_compared():
    assert frame_hash(np.full((40, 60, 3), 90, np.uint8)) is None
    assert not shows_the_same("", "")
    assert held_out_reason("a", [HeldOutClip("b", "why", "c")], "") is None


def test_a_video_in_parts_has_the_fingerprints_of_its_frames(tmp_path):
    frames = frames_of(3, count=12)
    (tmp_path / "clips").mkdir()
    make_video(
        tmp_path / "clips" / "a.mkv",
        [f.astype(np.float32) / 255 for f in frames],
        codec="ffv1",
        layout="bgr0",
    )
    shots = tmp_path / "shots.json"
    # The last shot is out of order.
    shots.write_text(json.dumps({"a.mkv": [[1, 3], [6, 11], [0, 1]]}))
    clips = find_clips(tmp_path / "clips", lambda: None, shots)["train"]
    assert [clip.name for clip in clips] == ["a.mkv@1-3", "a.mkv@6-11", "a.mkv@0-1"]
    for clip, text in zip(clips, fingerprints(clips), strict=True):
        assert text == " ".join(map(frame_hash, frames[clip.first : clip.first + clip.count]))


@pytest.fixture
def source(tmp_path):
    """Two clips and, under another name, the reduced frames of a third one, which is held out."""
    root = tmp_path / "source"
    write_frames(root / "holiday" / "walk", frames_of(1))
    write_frames(root / "park", frames_of(2))
    write_frames(root / "mine", [resized(frame, 0.5) for frame in frames_of(3)])
    return root


@pytest.fixture
def listing(tmp_path, capsys):
    """A list with the third clip, as the command prints its entry."""
    write_frames(tmp_path / "walk", frames_of(3))
    assert main(["Vid4", str(tmp_path / "walk"), "--why", "a test set"]) == 0
    file = tmp_path / "list.json"
    file.write_text(f'{{"clips": [{capsys.readouterr().out}]}}')
    assert [(e.name, e.dataset, len(e.frames.split())) for e in read_heldout(file)] == [("walk", "Vid4", 8)]
    return file


def test_packing_holds_clips_out_under_any_name(source, listing, tmp_path, capsys):
    prepare("video_folder", source, tmp_path / "out", heldout=listing)
    assert "held out: mine (a test set)" in capsys.readouterr().err
    packed = PreparedClips("video_folder", tmp_path / "out")
    assert packed.names == ["holiday/walk", "park"]
    assert PreparedClips("video_folder", tmp_path / "out", "heldout").names == ["mine"]
    heldout = read_heldout(listing)
    refuse_held_out(packed.named_fingerprints, heldout, "here")
    both = PreparedClips("video_folder", tmp_path / "out", "train+heldout")
    with pytest.raises(InputError, match=r"here: mine is not for training \(a test set\)"):
        refuse_held_out(both.named_fingerprints, heldout, "here")
    # Without fingerprints, as in earlier versions, a name is enough.
    with pytest.raises(InputError, match="holiday/walk is not for training"):
        refuse_held_out([(name, None) for name in packed.names], heldout, "here")


def test_without_a_file_the_list_of_the_package_is_used(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames(source / "Vid4" / "walk", frames_of(4))
    prepare("video_folder", source, tmp_path / "out")
    assert PreparedClips("video_folder", tmp_path / "out", "heldout").names == ["Vid4/walk"]
    prepare("video_folder", source, tmp_path / "all", heldout=NO_HELD_OUT_CLIPS)
    assert len(PreparedClips("video_folder", tmp_path / "all")) == 4
    # A file in the current folder replaces it.
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "heldout.json").write_text('{"clips": {"park": "mine"}}')
    assert [entry.name for entry in read_heldout("configs/heldout.json")] == ["park"]


def test_a_missing_list_is_an_error_with_a_way_out(source, tmp_path):
    with pytest.raises(
        InputError, match=r"none\.json: the list .* cannot be read .*--heldout none"
    ) as caught:
        prepare("video_folder", source, tmp_path / "out", heldout=tmp_path / "none.json")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content",
    [
        *(
            "",
            "[]",
            "{}",
            '{"clips": ["walk"]}',
            '{"clips": {"walk": 1}}',
            "\xff",
            '{"clips": [{"name": "a"}]}',
        ),
        '{"clips": [{"name": "a", "why": "b", "colour": "c"}]}',
        '{"clips": [{"name": "a", "why": "b", "frames": "12"}]}',
        '{"clips": [{"name": "a", "why": "b", "frames": "no"}]}',
    ],
)
def test_files_that_are_not_lists_are_refused(tmp_path, content):
    (tmp_path / "list.json").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"list\.json: not a list of held-out clips"):
        read_heldout(tmp_path / "list.json")


def test_the_list_of_the_package_has_data_sets_and_distinct_fingerprints():
    entries = read_heldout(ROOT / "configs" / "heldout.json")
    assert {"calendar", "blackswan", "cityCC0"} <= {entry.name for entry in entries}
    assert all(entry.dataset and re.search(r"\w", entry.why) for entry in entries)
    known = [entry for entry in entries if entry.frames]
    assert len(known) == 7
    for entry in known:
        assert [other.name for other in known if shows_the_same(entry.frames, other.frames)] == [entry.name]


def test_the_earlier_name_of_the_command_still_works(tmp_path):
    for words, message in (
        (
            ["video_folder"],
            "ldip prepare video_folder: error: the following arguments",
        ),
        (
            ["records", "--split", "train"],
            "ldip records: error: the following arguments are",
        ),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "ldip_jax.data.prepare", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert message in done.stderr
