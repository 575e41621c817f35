"""Camera moves over stills: they move, stay on the still, and frames show what the poses say."""

import numpy as np
import pytest

from ldip_jax.data import synthetic
from ldip_jax.data.camera_moves import CameraMoveClips, draw_camera_move
from ldip_jax.data.synthetic import corners
from ldip_jax.errors import InputError
from ldip_jax.media.images import write_png
from tests.data.footage import psnr, sample_bilinear


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("stills")
    (root / "deep").mkdir()
    for seed, name in enumerate(["b.png", "deep/a.png"]):
        picture = synthetic.picture(np.random.default_rng(seed), (150, 220))
        write_png(root / name, picture.astype(np.float32) / 255)
    return root


@pytest.mark.parametrize("still", [(150, 220), (60, 90), (47, 67)])
def test_moves_stay_on_the_still_and_never_magnify_it(still):
    size, steps = (40, 60), []
    for seed in range(40):
        poses = draw_camera_move(np.random.default_rng(seed), still, size, 12)
        seen = corners(size, poses)
        assert seen.min() >= 3
        assert (seen <= np.array(still[::-1]) - 1 - 3 + 1e-9).all()
        assert np.linalg.det(poses[:, :, :2]).min() > 0.99
        steps.append(np.linalg.norm(np.diff(seen.mean(axis=1), axis=0), axis=1).max())
    if still[0] > 100:
        assert np.median(steps) > 1


def test_frames_correspond(folder):
    clip = CameraMoveClips(folder, (40, 60), 12, moves=3)[4]
    assert clip.name == "deep/a.png move 1"
    grid = np.moveaxis(np.mgrid[:60, :40], 0, -1).swapaxes(0, 1).astype(np.float64)
    there, shows = clip.correspond(0, 11, grid)
    here, far = clip.frame(0), clip.frame(11)
    assert shows.mean() > 0.2
    warped = sample_bilinear(far, there)[shows]
    assert psnr(warped, here[shows]) > psnr(far[shows], here[shows]) + 6


def test_every_image_and_move_is_used_and_all_differ(folder):
    clips = CameraMoveClips(folder, (40, 60), 2, moves=3)
    assert clips.names == ["b.png", "deep/a.png"]
    assert len(clips) == 6
    assert len({clips[index].frame(0).tobytes() for index in range(6)}) == 6
    again = CameraMoveClips(folder, (40, 60), 2, moves=3)[5].frame(1)
    np.testing.assert_array_equal(again, clips[5].frame(1))


def test_unusable_folders_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"b\.png: 220x150 is too small for a camera of 220x150"):
        CameraMoveClips(folder, (150, 220))
    with pytest.raises(InputError, match="no such folder"):
        CameraMoveClips(folder / "none", (40, 60))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images"):
        CameraMoveClips(tmp_path / "empty", (40, 60))
