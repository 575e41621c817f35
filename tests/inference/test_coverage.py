"""Which parts of a clip are covered by stills, and the advice on it."""

import numpy as np
import pytest

from ldip_jax.inference.coverage import Stretch, advice, match_clip, spread_key_frames, uncovered
from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.references import MATCHES_TOO_LITTLE, ReferenceChoice
from ldip_jax.inference.upscaler import Upscaler


def when(frame):
    return f"frame {frame}"


def choices(*used, name="a"):
    """Whether a still is used, at every eighth frame."""
    return {
        8 * i: [ReferenceChoice(name, 0.5 if yes else 0.01, yes, reason="" if yes else MATCHES_TOO_LITTLE)]
        for i, yes in enumerate(used)
    }


def test_key_frames_are_spread_over_the_clip():
    assert spread_key_frames(17, 8, 12) == [0, 8, 16]
    assert spread_key_frames(1, 8, 12) == [0]
    many = spread_key_frames(1000, 8, 12)
    assert len(many) == 12
    assert (many[0], many[-1]) == (0, 992)
    assert all(key % 8 == 0 for key in many)


def test_every_shot_gets_a_key_frame():
    assert spread_key_frames(32, 8, 12, cuts=[15, 25]) == [0, 8, 16, 24, 25]
    assert spread_key_frames(400, 100, 2, cuts=[10, 20, 30, 40]) == [0, 10, 20, 300]


class FakeUpscaler(Upscaler):
    """Uses every still, and records the frames that it is given."""

    def __init__(self):
        self.on_key_frame, self.choices, self.pieces = None, {}, []

    def frames(self, piece, stills):
        self.pieces.append([int(frame[0, 0, 0]) for frame in piece])
        self.choices = {0: [ReferenceChoice(still.name, 1.0, True) for still in stills]}
        yield np.zeros((4, 4, 3))


def test_frames_are_matched_with_the_stills_of_their_shot():
    upscaler = FakeUpscaler()
    frames = [np.full((1, 1, 3), place, np.float32) for place in range(6)]
    stills = [Still("bound", np.zeros((2, 2, 3)), moment=1), Still("free", np.zeros((2, 2, 3)))]
    found = list(match_clip(upscaler, frames, stills, [0, 2, 5], cuts=[3]))
    assert [match.frame for match in found] == [0, 2, 5]
    # Each with the frame after it, but not across a cut or beyond the end.
    assert upscaler.pieces == [[0, 1], [2], [5]]
    assert [[c.name for c in match.choices] for match in found] == [["bound", "free"]] * 2 + [["free"]]
    assert all(match.covered for match in found)


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        ((True, True, True), []),
        ((True, False, True), [Stretch(5, 12, 8)]),
        ((False, False, True), [Stretch(0, 12, 8)]),
        ((False, True, False), [Stretch(0, 4, 0), Stretch(13, 19, 16)]),
        ((False, False, False), [Stretch(0, 19, 8)]),
    ],
)
def test_uncovered_stretches_reach_halfway_to_the_next_match(used, expected):
    assert uncovered(dict(zip((0, 8, 16), used, strict=True)), 20) == expected


def test_advice_names_the_longest_gap_first_and_useless_stills():
    found = choices(False, True, True, False, False)
    lines = advice(found, ["a", "b"], 40, when)
    assert lines == [
        "No still matches from frame 21 to frame 39: add a sharp one from about frame 32.",
        "No still matches from frame 0 to frame 4: add a sharp one from about frame 0.",
        "b is used nowhere.",
    ]
    assert advice(choices(True, True), ["a"], 16, when) == ["A still matches in every part of the clip."]
    assert advice(choices(False), ["a"], 5, when)[-1] == f"a is used nowhere ({MATCHES_TOO_LITTLE})."
