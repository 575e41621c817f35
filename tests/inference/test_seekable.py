"""Frames by number equal those computed in order, whatever the order, without unnecessary work."""

import numpy as np
import pytest

from ldip_jax import InputError, Upscaler
from ldip_jax.inference import streaming, upscaler
from ldip_jax.inference.seekable import SeekableFrames
from ldip_jax.inference.upscaler import Segment
from tests.networks import LR


class Counted(upscaler.Upscaler):
    """An upscaler that returns the frames as they are read, in segments of 10, and records their numbers."""

    def __init__(self):
        self.computed, self.out_size = [], (1, 1)

    def segments(self, frames, stills=(), advance=None):
        held = list(frames)
        for first in range(0, len(held), 10):
            places = range(first, min(first + 10, len(held)))
            yield Segment(places, (self._image(held[place], place) for place in places))

    def _image(self, frame, place):
        self.computed.append(place)
        return frame


@pytest.fixture
def counted():
    return Counted()


def served(counted, kept=8, count=35):
    def read(number):
        return np.full((1, 1, 3), number, np.float32)

    return SeekableFrames(counted, read, count, [], kept)


@pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
def test_every_frame_is_right_in_any_order(counted, order):
    frames = served(counted)
    numbers = list(range(len(frames)))
    if order == "backward":
        numbers.reverse()
    elif order == "shuffled":
        np.random.default_rng(0).shuffle(numbers)
    assert [int(frames[number][0, 0, 0]) for number in numbers] == numbers


def test_in_order_every_frame_is_computed_once(counted):
    frames = served(counted)
    for number in range(35):
        frames[number]
    assert counted.computed == list(range(35))


def test_requests_in_the_order_of_several_threads_repeat_no_work(counted):
    frames = served(counted)
    for number in (1, 0, 3, 2, *range(4, 8), 10, 9, 8, 12, 11):
        frames[number]
    assert counted.computed == list(range(13))


def test_a_jump_computes_only_the_window_that_holds_the_frame(counted):
    frames = served(counted)
    frames[0]
    frames[32]
    assert counted.computed == [0, 30, 31, 32]
    frames[5]
    assert counted.computed[4:] == list(range(6))


def test_frames_are_computed_again_after_an_error(counted, monkeypatch):
    frames = served(counted)
    image = counted._image
    monkeypatch.setattr(counted, "_image", lambda *_: (_ for _ in ()).throw(InputError("broken")))
    with pytest.raises(InputError, match="broken"):
        frames[3]
    monkeypatch.setattr(counted, "_image", image)
    assert frames[3][0, 0, 0] == 3
    with pytest.raises(IndexError, match="frames 0 to 34"):
        frames[35]


def test_frames_equal_those_of_the_upscaler(networks, monkeypatch):
    """Two windows, with LRRF, a still and self-references."""
    monkeypatch.setattr(streaming, "BUDGET", 1)
    monkeypatch.setattr(streaming, "OVERLAP", 2)
    rng = np.random.default_rng(4)
    clip, still = rng.uniform(size=(11, *LR, 3)).astype(np.float32), rng.uniform(size=(32, 40, 3))
    options = {"key_stride": 3, "self_refs": 2, "exclude": 2, "matcher": "flow", "ref_threshold": 0.0}
    library = Upscaler(networks.backbone, networks.trained, **options)
    whole = library(clip, [still])
    frames = library.seekable(clip.__getitem__, len(clip), LR, [still], kept=4)
    assert frames.size == whole.shape[1:3]
    for number in (8, 2, 10):
        np.testing.assert_array_equal(frames[number], whole[number])


def test_invalid_arguments_are_refused(networks):
    library = Upscaler(networks.backbone, "none")
    for options in ({"count": 0}, {"count": 3, "kept": 1}):
        with pytest.raises(InputError, match="give a whole number, at least"):
            library.seekable(np.zeros((3, *LR, 3), np.float32).__getitem__, frame_size=LR, **options)
