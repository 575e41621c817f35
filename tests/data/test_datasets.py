"""From a config to clips, and clips that must not be trained on."""

import json

import numpy as np
import pytest

from ldip_jax.data.clips import choose_frames
from ldip_jax.data.config import DataConfig
from ldip_jax.data.datasets import open_clips, sampling_spec
from ldip_jax.data.packing import prepare
from ldip_jax.errors import InputError
from ldip_jax.media.images import write_png


def config(**fields):
    return DataConfig(**{"dataset": "synthetic", "heldout": "", "size": (32, 48), **fields})


@pytest.fixture
def listing(tmp_path):
    file = tmp_path / "heldout.json"
    file.write_text(json.dumps({"clips": {"walk": "a test set"}}))
    return str(file)


def test_the_sampling_spec_comes_from_the_config():
    spec = sampling_spec(config(scale=(1.5, 4.5), frames=8, clip=4, augment=False))
    assert (spec.context_frames, spec.target_frames, spec.scale, spec.augment) == (8, 4, (1.5, 4.5), False)
    # For records, the numbers are drawn with the crops, and must not be drawn here as well.
    for seed in range(20):
        choice = choose_frames(sampling_spec(config(), for_records=True), np.random.default_rng(seed), 24)
        assert choice.references.shape == (3, 5)
        assert choice.references.min() >= 0
    with pytest.raises(InputError, match=r"data\.clip is 12; choose from 1 to data\.frames, 8"):
        sampling_spec(config(frames=8))


def test_synthetic_clips_need_nothing_but_a_size():
    clips = open_clips(config(), seed=2)
    assert (clips[0].size, clips[0].count) == ((32, 48), 24)
    assert (clips[0].frame(0) != open_clips(config(), seed=3)[0].frame(0)).any()


def test_held_out_clips_are_refused_only_for_training(tmp_path, listing):
    for clip in ("park", "walk"):
        (tmp_path / "source" / clip).mkdir(parents=True)
        write_png(tmp_path / "source" / clip / "0.png", np.zeros((8, 8, 3), np.float32))
    data = config(dataset="video_folder", data_dir=str(tmp_path / "out"), heldout=listing, clip=1)
    prepare("video_folder", tmp_path / "source", tmp_path / "out")
    with pytest.raises(InputError, match=r"walk is not for training \(a test set\)"):
        open_clips(data)
    prepare(
        "video_folder",
        tmp_path / "source",
        tmp_path / "out",
        heldout=tmp_path / "heldout.json",
        overwrite=True,
    )
    assert [clip.name for clip in open_clips(data)] == ["park"]
    assert [clip.name for clip in open_clips(data, "heldout")] == ["walk"]
    with pytest.raises(InputError, match="walk is not for training"):
        open_clips(data, "train+heldout")


def test_held_out_stills_are_refused(tmp_path, listing):
    (tmp_path / "stills").mkdir()
    write_png(tmp_path / "stills" / "walk.png", np.zeros((60, 60, 3), np.float32))
    with pytest.raises(InputError, match=r"walk\.png is not for training"):
        open_clips(config(dataset="stills", data_dir=str(tmp_path / "stills"), heldout=listing))
