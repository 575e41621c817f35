"""Which frames are upscaled, scored and used as references."""

import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.evaluation import protocols
from ldip_jax.evaluation.datasets import DATASETS
from ldip_jax.evaluation.runner import mean_outputs


def test_fractions_of_a_hundred_frames_give_table_5():
    case = protocols.by_fractions(100)
    assert case.inputs == case.scored == tuple(range(20, 81))
    assert case.references == (0, 99)
    assert case.outputs[0] == (0,)
    assert case.outputs[-1] == (60,)


@pytest.mark.parametrize("count", [8, 9, 13, 41, 240])
def test_references_by_fractions_are_never_upscaled(count):
    case = protocols.by_fractions(count)
    assert not set(case.inputs) & set(case.references)
    assert case.references[0] == 0
    assert case.references[1] == count - 1


def test_near_references_are_ten_frames_away():
    case = protocols.near(40)
    assert len(case.inputs) == 12
    assert case.references == (case.inputs[0] - 10, case.inputs[-1] + 10)
    assert protocols.near(32).references == (0, 31)


def test_a_pan_has_five_references_that_are_upscaled_but_not_scored():
    case = protocols.pan(41)
    assert case.references == (0, 10, 20, 30, 40)
    assert case.inputs == tuple(range(41))
    assert set(case.scored) == set(range(41)) - set(case.references)


@pytest.mark.parametrize("protocol", ["table5", "near"])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 12])
def test_any_number_of_references_is_spread_around_the_frames(protocol, count):
    protocol = protocols.PROTOCOLS[protocol]
    usual = protocol.frames(DATASETS["video_folder"], 50)
    case = protocol.frames(DATASETS["video_folder"], 50, count)
    assert (case.inputs, case.scored, case.outputs) == (usual.inputs, usual.scored, usual.outputs)
    assert len(set(case.references)) == count
    assert not set(case.references) & set(case.inputs)
    assert case.references == tuple(sorted(case.references))
    assert case.references[0] == usual.references[0]
    assert case.references[-1] == usual.references[-1 if count > 1 else 0]
    assert count != 2 or case == usual
    before = sum(frame < case.inputs[0] for frame in case.references)
    assert abs(2 * before - count) <= 1


def test_more_references_than_frames_are_refused():
    with pytest.raises(InputError, match=r"^its 19 frames that are not upscaled are too few for 20 ref"):
        protocols.with_references(protocols.by_fractions(50), 20)


def test_the_middle_of_seven_frames():
    assert protocols.middle(7).scored == (3,)
    case = protocols.mirrored(7)
    assert case.inputs == (0, 1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 1, 0)
    assert case.scored == (3,)
    # out[t // 4] and out[-1 - t // 4] for t = 14.
    assert case.outputs == ((3, 10),)
    assert case.inputs[3] == case.inputs[10] == 3


@pytest.mark.parametrize(
    ("case", "most"),
    [(protocols.by_fractions, 7), (protocols.near, 31), (protocols.pan, 5)],
    ids=["by_fractions", "near", "pan"],
)
def test_clips_shorter_than_the_message_says_are_refused(case, most):
    for count in (1, 2, most):
        with pytest.raises(InputError, match=f"{count} frames are too few .* needs {most + 1}"):
            case(count)
    assert case(most + 1).scored


def test_outputs_are_averaged_and_no_more_are_computed_than_needed():
    computed = []

    def images():
        for index in range(20):
            computed.append(index)
            yield np.full((1, 1, 3), index, np.float32)

    assert [float(x.max()) for x in mean_outputs([(3, 10)], images())] == [6.5]
    assert computed == list(range(11))
    assert [float(x.max()) for x in mean_outputs([(0,), (2,)], images())] == [0.0, 2.0]
