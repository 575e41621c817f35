"""Synthetic scenes: their correspondences against their pixels, occlusion, antialiasing, seeds."""

import numpy as np
import pytest

from ldip_jax.data.synthetic import Layer, LayeredClip, SyntheticClips, corners, poses
from ldip_jax.errors import InputError
from tests.data.footage import Coordinates, sample_bilinear

SIZE = (40, 56)


def still_pose(x=0.0, y=0.0, zoom=1.0):
    return np.array([[zoom, 0.0, x], [0.0, zoom, y]])


def grid(size):
    return np.moveaxis(np.mgrid[: size[1], : size[0]], 0, -1).swapaxes(0, 1).astype(np.float64)


@pytest.mark.parametrize("zoom", [0.9, 1.7, 2.05, 2.6])
def test_frames_show_the_picture_where_the_pose_says(zoom):
    ramp = Coordinates((160, 220)).frame(0)
    layer_poses = poses(
        np.array([0.3]), np.array([zoom]), np.array([[27.5, 19.5]]), np.array([[105.0, 77.0]])
    )
    layer = Layer(ramp, None, layer_poses)
    frame = LayeredClip("ramp", SIZE, [layer]).frame(0)
    places = layer.to_picture(0, grid(SIZE))
    np.testing.assert_allclose(frame[..., :2], places, atol=1.0)
    # Rounding down shifts both ramps alike; a wrong place shifts one up and one down.
    falling = LayeredClip("falling", SIZE, [Layer(255 - ramp, None, layer_poses)]).frame(0)
    rising = frame[..., :2].astype(float).mean(axis=(0, 1))
    middle = (rising + 255 - falling[..., :2].astype(float).mean(axis=(0, 1))) / 2
    np.testing.assert_allclose(middle, places.mean(axis=(0, 1)), atol=0.02)
    np.testing.assert_allclose(corners(SIZE, layer_poses)[0, 3], places[-1, -1], atol=1e-9)


def test_places_map_there_and_back():
    clip = SyntheticClips(SIZE, 9)[4]
    there, shows = clip.correspond(1, 7, grid(SIZE))
    back, again = clip.correspond(7, 1, there)
    assert 0.4 < shows.mean() < 1
    np.testing.assert_allclose(back[shows], grid(SIZE)[shows], atol=1e-9)
    assert again[shows].all()


def test_covered_places_do_not_show():
    background = Layer(np.full((40, 56, 3), 50, np.uint8), None, np.stack([still_pose()] * 2))
    # A square of 8 pixels at x = 10, then at x = 30.
    square = Layer(
        np.full((16, 16, 3), 200, np.uint8),
        np.pad(np.full((8, 8), 255, np.uint8), 4),
        np.stack([still_pose(4 - 10, 4 - 10), still_pose(4 - 30, 4 - 10)]),
    )
    clip = LayeredClip("square", SIZE, [background, square])
    assert (clip.frame(0)[10:18, 10:18] == 200).all()
    assert (clip.frame(1)[10:18, 30:38] == 200).all()
    there, shows = clip.correspond(0, 1, grid(SIZE))
    np.testing.assert_array_equal(there[10:18, 10:18], grid(SIZE)[10:18, 10:18] + (20, 0))
    assert shows[10:18, 10:18].all()
    hidden = np.zeros(SIZE, bool)
    hidden[10:18, 30:38] = True
    np.testing.assert_array_equal(~shows, hidden)
    outside, inside_shows = clip.correspond(0, 1, np.array([[-20.0, 5.0], [60.0, 5.0]]))
    np.testing.assert_array_equal(outside, [[-20.0, 5.0], [60.0, 5.0]])
    assert not inside_shows.any()


def test_denser_pictures_do_not_alias():
    stripes = np.zeros((160, 224, 3), np.uint8)
    stripes[:, ::2] = 255
    clip = LayeredClip("stripes", SIZE, [Layer(stripes, None, still_pose(1.5, 1.5, 3.9)[None])])
    assert np.abs(clip.frame(0)[2:-2, 2:-2].astype(float) - 127.5).max() < 30


def test_objects_move_against_the_background():
    clip = SyntheticClips((64, 96), 12)[0]
    there, _ = clip.correspond(0, 11, grid(clip.size))
    assert len(np.unique(np.rint(there - grid(clip.size)), axis=0)) > 3


def test_frames_are_full_of_detail_and_have_no_empty_parts():
    for index in range(4):
        clip = SyntheticClips((64, 96), 12, seed=9)[index]
        for number in (0, 11):
            frame = clip.frame(number).astype(np.float64)
            assert frame.std() > 20
            assert frame.reshape(-1, 3).any(axis=1).all()
            lost = frame - sample_bilinear(frame[2::4, 2::4], grid((64, 96)) / 4 - 0.5)
            assert lost.std() > 5


def test_same_seed_same_scene():
    frames = [SyntheticClips(SIZE, 3, seed=seed)[1].frame(2) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(frames[0], frames[1])
    assert (frames[0] != frames[2]).any()
    clips = SyntheticClips(SIZE, 3, scenes=2)
    assert clips[0].name != clips[1].name
    assert len(clips) == 2


def test_sizes_that_are_too_small_are_refused():
    with pytest.raises(InputError, match="8x40"):
        SyntheticClips((40, 8))
