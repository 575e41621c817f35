"""Packing data sets: what is checked, what is packed, interruption, and reading what was packed."""

import json
import os
import pickle
import shutil
import sys

import numpy as np
import pytest

from ldip_jax.cli.main import main
from ldip_jax.data import builders, folders, prepared
from ldip_jax.data.clips import SamplingSpec, draw_sample
from ldip_jax.data.folders import find_clips, find_reds, find_udm10, find_vid4, find_vimeo90k
from ldip_jax.data.packing import prepare
from ldip_jax.data.prepared import PreparedClips
from ldip_jax.errors import InputError
from ldip_jax.media.images import encode_png
from ldip_jax.media.reader import open_clip
from tests.media.make import make_video


def picture(number, size=(32, 48)):
    image = np.random.default_rng(number).integers(0, 256, (*size, 3)).astype(np.uint8)
    image[0, 0, 0] = number
    return image


def write_images(folder, names, size=(32, 48), start=0):
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(encode_png(picture(start + number, size)))


def seen():
    pass


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """Environment variables that the command sets must not outlive the test."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.fixture
def source(tmp_path):
    """Three clips, one of them held out."""
    root = tmp_path / "source"
    for index, name in enumerate(["alpha", "walk", "more/beta"]):
        write_images(root / name, [f"{n:03d}.png" for n in range(4)], start=10 * index)
    return root


@pytest.fixture
def heldout(tmp_path):
    file = tmp_path / "heldout.json"
    file.write_text(json.dumps({"clips": {"walk": "a test set"}}))
    return file


def test_packed_frames_are_those_of_the_source(source, heldout, tmp_path):
    folder = prepare("video_folder", source, tmp_path / "out", heldout=heldout)
    clips = PreparedClips("video_folder", tmp_path / "out")
    assert clips.names == ["alpha", "more/beta"]
    assert clips[1].size == (32, 48)
    assert clips[1].count == 4
    for reader in (clips, pickle.loads(pickle.dumps(clips))):
        np.testing.assert_array_equal(reader[1].frame(3), picture(23))
        np.testing.assert_array_equal(reader[0].frame(0), picture(0))
    assert PreparedClips("video_folder", tmp_path / "out", "heldout").names == ["walk"]
    assert PreparedClips("video_folder", tmp_path / "out", "heldout+train").names[0] == "walk"
    sample = draw_sample(
        SamplingSpec(context_frames=4, target_frames=2, max_key_frames=1), clips[0], np.random.default_rng(0)
    )
    assert sample.hr.shape[1] in (32, 48)
    assert "tensorflow" not in sys.modules
    # Nothing but the data set is left.
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["video_folder"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["1.0.0"]


def test_reduced_frames_are_means_over_areas(source, tmp_path):
    prepare("video_folder", source, tmp_path / "out", reduce=0.5)
    clip = PreparedClips("video_folder", tmp_path / "out")[0]
    assert clip.size == (16, 24)
    means = picture(2).reshape(16, 2, 24, 2, 3).mean(axis=(1, 3))
    # Rounded once for each axis.
    assert np.abs(clip.frame(2) - means).max() <= 1
    with pytest.raises(InputError, match=r"choose from 0\.25 to 1"):
        prepare("video_folder", source, tmp_path / "out", reduce=0.1)


def test_an_interrupted_run_continues_where_it_stopped(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(builders, "_SHARD_BYTES", 1)
    encode, done = prepared.encode_image, []

    def count(file, size):
        if len(done) == 6:
            raise KeyboardInterrupt
        done.append(file.parent.name)
        return encode(file, size)

    monkeypatch.setattr(prepared, "encode_image", count)
    command = ["prepare", "video_folder", "--source", str(source), "--output", str(tmp_path / "out")]
    assert main(command) == 130
    assert "interrupted" in capsys.readouterr().err
    with pytest.raises(InputError, match="no prepared data set"):
        PreparedClips("video_folder", tmp_path / "out")
    # Killed while shards were linked.
    (tmp_path / "out" / "video_folder" / "incomplete.X_1.0.0").mkdir(parents=True, exist_ok=True)
    del done[:]
    done += [""] * 7
    assert main(command) == 0
    # The clip in the middle was half done: it and the last one are made again, the first is not.
    assert done[7:] == ["beta"] * 4 + ["walk"] * 4
    clips = PreparedClips("video_folder", tmp_path / "out")
    for index, start in enumerate((0, 20, 10)):
        for number in range(4):
            np.testing.assert_array_equal(clips[index].frame(number), picture(start + number))
    assert len(list(clips.folder.glob("*array_record*"))) == 3
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["video_folder"]
    assert [path.name for path in clips.folder.parent.iterdir()] == ["1.0.0"]


def test_data_is_prepared_again_only_if_files_changed(source, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["prepare", "video_folder", "--source", str(source), "--output", str(out)]
    assert main(command) == 0
    assert main(command) == 0
    assert "exists already" in capsys.readouterr().err
    (source / "alpha" / "000.png").write_bytes(encode_png(picture(99)))
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    np.testing.assert_array_equal(PreparedClips("video_folder", out)[0].frame(0), picture(99))


def test_videos_are_cut_into_shots_and_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "MAX_SHOT_FRAMES", 4)
    monkeypatch.setattr(builders, "_SHARD_BYTES", 1)
    root = tmp_path / "source"
    root.mkdir()
    frames = [picture(n).astype(np.float32) / 255 for n in range(11)]
    make_video(root / "film.mkv", frames, codec="ffv1", layout="bgr0")
    (root / "notes.txt").write_text("passed over")
    shots = tmp_path / "shots.json"
    shots.write_text(json.dumps({"film.mkv": [[1, 3], [4, 10]]}))
    prepare("video_folder", root, tmp_path / "out", shots=shots)
    clips = PreparedClips("video_folder", tmp_path / "out")
    assert clips.names == ["film.mkv@1-3", "film.mkv@4-6", "film.mkv@7-10"]
    expected = [np.rint(frame * 255) for frame in open_clip(root / "film.mkv")]
    for clip, first in zip(clips, (1, 4, 7), strict=True):
        for number in range(clip.count):
            np.testing.assert_array_equal(clip.frame(number), expected[first + number])
    with pytest.raises(InputError, match="no clip of train has 5 frames"):
        PreparedClips("video_folder", tmp_path / "out", min_frames=5)
    assert PreparedClips("video_folder", tmp_path / "out", min_frames=4).names == ["film.mkv@7-10"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"film": [[0, 3]]}', "names film, which does not exist"),
        ('{"alpha": [[0, 4]]}', "alpha has 4 frames, no shot from 0 to 4"),
        ('{"alpha": [0, 4]}', "is not a list of shots"),
        ("nothing", "is not a list of shots"),
    ],
)
def test_shots_that_do_not_fit_are_refused(source, tmp_path, content, message):
    (tmp_path / "shots.json").write_text(content)
    with pytest.raises(InputError, match=message):
        find_clips(source, seen, tmp_path / "shots.json")


@pytest.fixture
def reds(tmp_path, monkeypatch):
    """REDS with fewer and smaller frames."""
    monkeypatch.setattr(folders, "REDS_CLIPS", {"train": 13, "val": 2})
    monkeypatch.setattr(folders, "REDS_FRAMES", 2)
    monkeypatch.setattr(folders, "REDS_SIZE", (4, 8))
    for part, count in folders.REDS_CLIPS.items():
        for clip in range(count):
            folder = tmp_path / "REDS" / f"{part}_sharp" / f"{clip:03d}"
            write_images(folder, ["00000000.png", "00000001.png"], (4, 8))
    return tmp_path / "REDS"


def test_reds_has_its_splits(reds, tmp_path):
    splits = find_reds(reds, seen)
    assert [clip.name[-3:] for clip in splits["reds4"]] == ["000", "011"]
    assert [clip.name[-3:] for clip in splits["val"]] == ["000", "001"]
    assert [clip.name[-3:] for clip in splits["train"]] == [f"{n:03d}" for n in range(13) if n not in (0, 11)]
    # As the archives unpack.
    for part in ("train", "val"):
        (reds / part).mkdir()
        shutil.move(reds / f"{part}_sharp", reds / part)
    assert find_reds(reds, seen).keys() == splits.keys()


def test_reds_in_full_has_270_clips(tmp_path):
    for part in ("train", "val"):
        (tmp_path / f"{part}_sharp").mkdir()
    with pytest.raises(InputError, match=r"train_sharp/000 is missing; .*; and 267 more$"):
        find_reds(tmp_path, seen)


def test_errors_in_reds_are_named(reds):
    (reds / "train_sharp" / "005" / "00000001.png").unlink()
    shutil.rmtree(reds / "val_sharp" / "001")
    (reds / "train_sharp" / "007" / "00000000.png").write_bytes(encode_png(picture(0, (8, 8))))
    with pytest.raises(InputError) as caught:
        find_reds(reds, seen)
    assert "train_sharp/005 has 1 of 2 frames, 00000001.png is missing" in str(caught.value)
    assert "train_sharp/007/00000000.png is 8x8, not 8x4" in str(caught.value)
    assert "val_sharp/001 is missing" in str(caught.value)
    assert "\n" not in str(caught.value)
    shutil.rmtree(reds / "val_sharp")
    with pytest.raises(InputError, match="no val_sharp or val/val_sharp in it"):
        find_reds(reds, seen)


def test_vimeo90k_follows_its_lists(tmp_path):
    root = tmp_path / "vimeo_septuplet"
    for name in ("00001/0001", "00001/0002", "00096/0936"):
        write_images(root / "sequences" / name, [f"im{n}.png" for n in range(1, 8)], (256, 448))
    (root / "sep_trainlist.txt").write_text("00001/0001\n00096/0936\n\n")
    (root / "sep_testlist.txt").write_text("00001/0002\n")
    splits = find_vimeo90k(tmp_path, seen)
    assert {name: [clip.name for clip in clips] for name, clips in splits.items()} == {
        "train": ["00001/0001", "00096/0936"],
        "test": ["00001/0002"],
    }
    (root / "sep_testlist.txt").write_text("00001/0003\n")
    (root / "sequences/00001/0001/im4.png").unlink()
    with pytest.raises(
        InputError, match=r"00001/0001 has 6 of 7 frames, im4.png is missing; 00001/0003 is missing"
    ):
        find_vimeo90k(root, seen)
    (root / "sep_trainlist.txt").unlink()
    with pytest.raises(InputError, match=r"sep_trainlist\.txt is missing"):
        find_vimeo90k(root, seen)


def test_vid4_and_udm10_are_complete_or_refused(tmp_path):
    for name, count in {"calendar": 41, "city": 34, "foliage": 49, "walk": 47}.items():
        write_images(tmp_path / "Vid4" / "GT" / name, [f"{n:08d}.png" for n in range(count)], (2, 2))
    assert [clip.count for clip in find_vid4(tmp_path / "Vid4", seen)["test"]] == [41, 34, 49, 47]
    (tmp_path / "Vid4" / "GT" / "city" / "00000003.png").unlink()
    with pytest.raises(InputError, match="city has 33 of 34 frames"):
        find_vid4(tmp_path / "Vid4", seen)
    for index in range(10):
        write_images(tmp_path / "udm10" / f"c{index}" / "truth", [f"{n:04d}.png" for n in range(32)], (2, 2))
    assert len(find_udm10(tmp_path / "udm10", seen)["test"]) == 10
    shutil.rmtree(tmp_path / "udm10" / "c3")
    with pytest.raises(InputError, match="holds 9 clips"):
        find_udm10(tmp_path / "udm10", seen)


def test_damaged_sources_are_named(source, tmp_path, capsys):
    file = source / "more" / "beta" / "002.png"
    file.write_bytes(file.read_bytes()[:-400])
    assert main(["prepare", "video_folder", "--source", str(source), "--output", str(tmp_path / "out")]) == 2
    assert "002.png" in capsys.readouterr().err
    assert not (tmp_path / "out" / "video_folder" / "1.0.0").exists()
    (source / "alpha" / "001.png").write_bytes(encode_png(picture(0, (8, 8))))
    with pytest.raises(InputError, match=r"alpha/001.png is 8x8, not 48x32"):
        find_clips(source, seen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "nowhere"], "no such folder"),
        (["--source", "."], "no folder of images"),
        (["--source", "source", "--heldout", "none.json"], "cannot be read"),
    ],
)
def test_bad_flags_are_reported_in_one_line(source, capsys, options, message):
    shutil.rmtree(source.parent / "ldip-cache", ignore_errors=True)
    if options[1] == ".":
        shutil.rmtree(source)
    assert main(["prepare", "video_folder", *options, "--output", "out"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_damaged_records_are_named(source, tmp_path):
    folder = prepare("video_folder", source, tmp_path / "out")
    record = next(folder.glob("*array_record*"))
    data = bytearray(record.read_bytes())
    place = bytes(data).index(encode_png(picture(20))) + 1000
    data[place : place + 8] = bytes(8)
    record.write_bytes(data)
    clips = PreparedClips("video_folder", tmp_path / "out")
    errors = []
    for clip in clips:
        for number in range(clip.count):
            try:
                clip.frame(number)
            except InputError as error:
                errors.append(str(error))
    assert len(errors) == 1
    assert "frame 0 of more/beta is damaged" in errors[0]
    record.write_bytes(data[:place])
    with pytest.raises(InputError, match="frame 0 of alpha is damaged"):
        PreparedClips("video_folder", tmp_path / "out")[0].frame(0)


def test_missing_data_and_splits_are_refused_with_a_way_out(source, tmp_path):
    with pytest.raises(InputError, match=r"prepare reds --source DIR --output "):
        PreparedClips("reds", tmp_path)
    prepare("video_folder", source, tmp_path / "out")
    with pytest.raises(InputError, match="has no split val; choose from train"):
        PreparedClips("video_folder", tmp_path / "out", "val")
    (tmp_path / "out" / "video_folder" / "1.0.0" / "dataset_info.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        PreparedClips("video_folder", tmp_path / "out")
