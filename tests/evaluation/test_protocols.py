"""Sizes and scales of the protocols, and the data sets' layouts."""

import pytest

from ldip_jax.errors import InputError
from ldip_jax.evaluation.datasets import DATASETS, find_clips
from ldip_jax.evaluation.metrics import CONVENTIONS
from ldip_jax.evaluation.protocols import PROTOCOLS, show_scale
from ldip_jax.evaluation.published import published


def test_lr_sizes_are_those_of_each_protocol():
    sizes = {name: PROTOCOLS[name].sizes for name in PROTOCOLS}
    assert sizes["bi-x4"]((577, 722), (4.0, 4.0)) == ((576, 720), (144, 180))
    assert sizes["bd-x4"]((576, 720), (4.0, 4.0)) == ((576, 720), (144, 180))
    # 576 / 3.5 = 164.57, 720 / 3.5 = 205.7; nothing is cropped.
    assert sizes["savsr"]((576, 720), (3.5, 3.5)) == ((576, 720), (165, 206))
    assert sizes["st-avsr"]((576, 720), (3.5, 3.5)) == ((576, 720), (164, 205))
    assert sizes["savsr"]((480, 720), (1.5, 4.0)) == ((480, 720), (320, 180))
    # Protocols with references: whole factors as in the published tables, others as savsr does.
    assert sizes["near"]((577, 722), (4.0, 4.0)) == ((576, 720), (144, 180))
    assert sizes["near"]((577, 722), (2.5, 2.5)) == ((577, 722), (231, 289))
    with pytest.raises(InputError, match="whole factors"):
        sizes["bi-x4"]((576, 720), (2.5, 2.5))
    with pytest.raises(InputError, match="too small"):
        sizes["bi-x4"]((3, 720), (4.0, 4.0))


def test_protocols_and_data_sets_name_what_exists():
    for protocol in PROTOCOLS.values():
        assert protocol.convention is None or protocol.convention in CONVENTIONS
        names = [column.name for column in protocol.variants]
        assert len(set(names)) == len(names)
    for dataset in DATASETS.values():
        assert dataset.protocol in PROTOCOLS
        assert dataset.convention in CONVENTIONS
    assert show_scale((4.0, 4.0)) == "4"
    assert show_scale((1.5, 4.0)) == "1.5x4"


def test_published_figures_are_shown_only_where_they_apply():
    vid4 = {figure.method: figure.psnr for figure in published("vid4", "bd-x4", (4.0, 4.0))}
    assert vid4["basicvsr-vimeo-bd"] == 27.9791
    assert published("vid4", "bi-x4", (2.0, 2.0)) == []
    assert published("video_folder", "bi-x4", (4.0, 4.0)) == []
    (savsr,) = published("vid4", "savsr", (1.5, 4.0))
    assert (savsr.psnr, savsr.ssim) == (30.45, 0.9027)
    assert [figure.psnr for figure in published("reds-val", "table5", (4.0, 4.0))] == [
        30.98,
        32.55,
        32.03,
        32.54,
    ]


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def found(name, folder):
    sources, notes = find_clips(DATASETS[name], folder)
    return [source.name for source in sources], notes


def test_vid4_in_its_usual_layout_or_bare(tmp_path):
    touch(tmp_path, "GT/city/0.png", "GT/calendar/0.png", "BIx4/walk/0.png", "GT/other/0.png")
    names, notes = found("vid4", tmp_path)
    assert names == ["calendar", "city"]
    assert notes == ["2 of 4 clips are missing: foliage, walk"]
    assert found("vid4", tmp_path / "GT")[0] == ["calendar", "city"]


def test_reds4_is_four_training_clips(tmp_path):
    touch(tmp_path, *(f"train_sharp/{clip}/00000000.png" for clip in ("000", "001", "011", "015", "020")))
    assert found("reds4", tmp_path) == (["000", "011", "015", "020"], [])


def test_vimeo_clips_are_those_of_its_list(tmp_path):
    touch(
        tmp_path,
        "sequences/00001/0266/im1.png",
        "sequences/00001/0268/im1.png",
        "sequences/00002/0001/im1.png",
    )
    names, notes = found("vimeo90k-t", tmp_path)
    assert names == ["00001/0266", "00001/0268", "00002/0001"]
    assert "not the published test set" in notes[0]
    (tmp_path / "sep_testlist.txt").write_text("00001/0266\n00002/0001\n00096/0936\n\n")
    names, notes = found("vimeo90k-t", tmp_path)
    assert names == ["00001/0266", "00002/0001"]
    assert notes == ["1 of the 3 clips of sep_testlist.txt are missing"]


def test_clips_from_the_user_are_folders_and_videos_or_one_of_them(tmp_path):
    touch(tmp_path, "b/1.jpg", "a.mp4", "c/readme.txt", ".hidden/1.png", "notes.txt")
    assert found("video_folder", tmp_path)[0] == ["a", "b"]
    assert found("video_folder", tmp_path / "b")[0] == ["b"]


def test_images_beside_clips_are_noted_and_equal_names_are_refused(tmp_path):
    touch(tmp_path, "b/1.jpg", "a.mp4", "poster.png")
    names, (note,) = found("video_folder", tmp_path)
    assert names == ["a", "b"]
    assert "images beside the 2 clips are left out" in note
    touch(tmp_path, "a.mkv")
    with pytest.raises(InputError, match=r"a\.mp4: has the same name as .*a\.mkv; rename"):
        found("video_folder", tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_missing_data_is_reported_in_one_line(tmp_path, name):
    for folder in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match=str(folder)) as caught:
            find_clips(DATASETS[name], folder)
        assert "\n" not in str(caught.value)
