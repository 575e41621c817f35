"""Round trips through codecs: what comes back, and that quality falls as requested."""

import numpy as np
import pytest

from ldip_jax.data.codecs import h264, jpeg, parse_codec
from ldip_jax.data.synthetic import scene
from ldip_jax.errors import InputError
from tests.data.footage import psnr


def frames(size=(48, 64), count=6):
    clip = scene(0, 0, size, count)
    return [clip.frame(number) for number in range(count)]


def coded(clip, crf, **more):
    return list(h264(clip, crf, **more))


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (18, 33)])
def test_as_many_frames_of_the_same_size_come_back_in_order(size):
    clip = frames(size)
    result = coded(clip, 15.0)
    assert [frame.shape for frame in result] == [frame.shape for frame in clip]
    assert {frame.dtype for frame in result} == {np.dtype(np.uint8)}
    for number, frame in enumerate(result):
        errors = [np.abs(frame.astype(int) - other).mean() for other in clip]
        assert np.argmin(errors) == number


def test_the_last_column_and_row_of_an_odd_size_are_no_worse_than_others():
    clip = frames((47, 63))
    result = coded(clip, 15.0)
    edges = [psnr(np.stack(clip)[part], np.stack(result)[part]) for part in (np.s_[:, -1], np.s_[:, :, -1])]
    assert min(edges) > psnr(np.stack(clip), np.stack(result)) - 3


def test_colours_survive_the_round_trip():
    """A flat colour changes by a few levels at most: matrix and range are the same both ways."""
    for colour in ([200, 40, 30], [20, 180, 60], [30, 50, 220]):
        clip = [np.broadcast_to(np.array(colour, np.uint8), (32, 32, 3))] * 2
        assert np.abs(coded(clip, 10.0)[1].astype(int) - clip[1]).max() <= 3


def test_a_higher_rate_factor_is_worse_and_coding_is_repeatable():
    clip = np.stack(frames())
    quality = [psnr(clip, np.stack(coded(clip, crf))) for crf in (15.0, 23.0, 35.0)]
    assert quality[0] > quality[1] + 1 > quality[2] + 2
    np.testing.assert_array_equal(coded(clip, 23.0), coded(clip, 23.0))


def test_frames_depend_on_those_around_them():
    clip = frames()
    assert (coded(clip, 30.0)[3] != coded(clip[3:], 30.0)[0]).any()
    assert (np.stack(coded(clip, 30.0)) != np.stack(coded(clip, 30.0, gop=1))).any()
    assert coded([], 23.0) == []


def test_jpeg_gets_worse_with_lower_quality():
    (frame,) = frames(count=1)
    quality = [psnr(frame, jpeg(frame, value)) for value in (95, 60, 20)]
    assert quality[0] > quality[1] > quality[2]
    assert jpeg(frame[:47, :63], 60).shape == (47, 63, 3)


def test_frames_come_out_before_all_have_gone_in():
    """Clips can have any length, because they are never held as a whole."""
    clip = frames((16, 16), 2) * 60
    read = []
    first = next(h264((read.append(number) or frame for number, frame in enumerate(clip)), 23.0))
    assert len(read) < 80
    np.testing.assert_array_equal(first, coded(clip, 23.0)[0])


def test_codecs_by_name():
    clip = frames()
    np.testing.assert_array_equal(list(parse_codec("h264:23")(clip)), coded(clip, 23.0))
    np.testing.assert_array_equal(list(parse_codec("jpeg:60")(clip)), [jpeg(frame, 60) for frame in clip])
    assert str(parse_codec("h264:23.50")) == "h264:23.5"


@pytest.mark.parametrize("text", ["h265:23", "h264", "h264:", "h264:52", "h264:nan", "jpeg:0", "jpeg:7.5"])
def test_invalid_codecs_and_settings_are_refused(text):
    with pytest.raises(InputError, match=r"no such codec|takes a") as error:
        parse_codec(text)
    assert repr(text) in str(error.value)
