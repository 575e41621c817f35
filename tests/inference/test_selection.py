"""Which key-frames of a window are matched, and when."""

import numpy as np
import pytest

from ldip_jax.inference.references import ReferenceChoice, ReferenceFinder, WindowFrames
from ldip_jax.inference.selection import WindowReferences
from ldip_jax.models.ref_align import Reference

KEY_FRAMES = [0, 4, 8, 12]
PHOTO = Reference(
    np.zeros((1, 1, 4, 4, 3), np.float32),
    np.full((1, 1, 2), 4, np.int32),
    np.zeros((1, 1, 4, 4, 2), np.float32),
    np.ones((1, 1, 4, 4, 1), np.float32),
    np.ones((1, 1), np.float32),
)


class Finder(ReferenceFinder):
    """Uses the photo at some key-frames, and remembers which key-frames it has matched."""

    def __init__(self, using):
        self.using, self.matched = using, []

    def match_stills(self, window, key_frame, *args):
        self.matched.append(key_frame)
        return ([PHOTO] if key_frame in self.using else []), []

    def add_self_references(self, window, key_frame, matched_stills, *args):
        return matched_stills


def references(using):
    """References of a window, the key-frames that are matched, and those that are reported."""
    finder, notified = Finder(using), []
    window = WindowReferences(
        finder,
        WindowFrames(0, [], lambda place: np.zeros((1, 4, 4, 3), np.float32)),
        lambda place: [],
        (4.0, 4.0),
        lambda kind: None,
        lambda place, found, choices: notified.append(place),
        stills_only=False,
    )
    return window, finder.matched, notified


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [(range(13), [12]), (range(4, 5), [4]), (range(9, 12), [12]), (range(1, 4), [4])],
)
def test_key_frames_next_to_the_wanted_frames_are_matched_first(wanted, expected):
    window, matched, notified = references(KEY_FRAMES)
    assert window.uses_any_still(KEY_FRAMES, wanted)
    assert matched == expected
    assert notified == []


def test_if_no_still_is_used_all_key_frames_are_tried_and_reported():
    window, matched, notified = references([])
    assert not window.uses_any_still(KEY_FRAMES, range(4, 5))
    assert sorted(matched) == sorted(notified) == KEY_FRAMES


def test_no_key_frame_is_matched_twice():
    window, matched, notified = references([0])
    assert window.uses_any_still(KEY_FRAMES, range(4, 5))
    assert [window.at(place) for place in KEY_FRAMES] == [[PHOTO], [], [], []]
    assert sorted(matched) == notified == KEY_FRAMES


def test_damage_is_that_beside_the_most_similar_still(monkeypatch):
    """Unused stills do not count, nor do frames of the clip, which are as damaged themselves."""
    window, *_ = references([0])
    choices = [
        ReferenceChoice("a", 0.6, used=True, damage=0.9),
        ReferenceChoice("b", 0.3, used=True, damage=0.7),
        ReferenceChoice("c", 0.1, used=False, reason="matches too little"),
        ReferenceChoice("frame 9", 0.9, used=True, is_self_reference=True),
    ]
    monkeypatch.setattr(Finder, "add_self_references", lambda *_: ([PHOTO] * 3, choices))
    window.at(0)
    assert window.damage(0) == 0.7
    monkeypatch.setattr(Finder, "add_self_references", lambda *_: ([], []))
    window.at(4)
    assert window.damage(4) == 0.0
