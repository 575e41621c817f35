"""Stills that show more, or less, than a key-frame does."""

import jax.numpy as jnp
import numpy as np

from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.references import ReferenceChoice, ReferenceFinder, ReferenceRules, WindowFrames
from tests.inference.test_references import FIRST, HR, SCALE, StubMatcher, clip


def wide_and_frame():
    """A still, and the image of a key-frame that shows its middle ninth."""
    image = np.random.default_rng(8).random((9, 12, 3)).repeat(8, 0).repeat(8, 1).astype(np.float32)
    h, w = image.shape[:2]
    part = image[h // 3 : h // 3 + h // 3, w // 3 : w // 3 + w // 3]
    rows, columns = (np.arange(n) * m // n for n, m in zip(HR, part.shape[:2], strict=True))
    return image, part[rows][:, columns]


class SameViewMatcher(StubMatcher):
    """Finds nothing unless the reference has been cut to the key-frame's view."""

    def coarse(self, pair):
        self.shares[pair.name] = float(" at " in pair.name)
        return super().coarse(pair)


def test_a_still_that_shows_more_is_cropped_to_what_the_key_frame_shows():
    image, frame = wide_and_frame()
    matcher = SameViewMatcher({})
    seen = clip()
    seen = WindowFrames(seen.first, seen.frames, lambda place: jnp.asarray(frame[None]))
    finder = ReferenceFinder(matcher, ReferenceRules(0, as_given=True))
    (reference,), choices = finder.match_stills(seen, 8, [Still("wide", image)], SCALE, lambda _: None)
    assert choices == [ReferenceChoice("wide", 1.0, used=True)]
    first, second = matcher.coarse_calls
    assert first.name == "wide"
    # A third of the still and a margin around it, then made no denser than the key-frame.
    assert all(0.38 < a / b < 0.45 for a, b in zip(second.reference.shape[1:3], image.shape, strict=False))
    assert all(n <= 1.3 * m for n, m in zip(np.asarray(reference.size)[0], HR, strict=True))
    cut = np.asarray(second.reference[0])
    assert any(
        np.array_equal(cut, image[y : y + cut.shape[0], x : x + cut.shape[1]])
        for y in range(image.shape[0] - cut.shape[0])
        for x in range(image.shape[1] - cut.shape[1])
    )


def test_a_still_that_shows_less_is_trusted_only_where_it_lies():
    image, frame = wide_and_frame()
    matcher = SameViewMatcher({})
    seen = WindowFrames(FIRST, clip().frames, lambda place: jnp.asarray(image[None]))
    finder = ReferenceFinder(matcher, ReferenceRules(0, as_given=True))
    (reference,), (choice,) = finder.match_stills(seen, 8, [Still("close", frame)], SCALE, lambda _: None)
    # A ninth of the key-frame, less what the margin takes away, because the stub reports the identity.
    assert 0.04 < choice.share < 0.12
    confident = np.asarray(reference.confidence)[0, ..., 0] > 0
    rows, columns = (np.flatnonzero(confident.any(axis)) for axis in (1, 0))
    assert confident[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert 0 < rows[0] < rows[-1] < image.shape[0] - 1
    x, y = np.moveaxis(np.asarray(reference.warp)[0][confident], -1, 0)
    shown = np.asarray(reference.image)[0, np.round(y).astype(int), np.round(x).astype(int)]
    assert not np.any(np.all(shown == 0.5, axis=-1))


def test_an_unrelated_still_is_matched_once():
    _, frame = wide_and_frame()
    matcher = SameViewMatcher({})
    seen = WindowFrames(FIRST, clip().frames, lambda place: jnp.asarray(frame[None]))
    other = np.random.default_rng(9).random((200, 300, 3), np.float32)
    finder = ReferenceFinder(matcher, ReferenceRules(0, as_given=True))
    assert finder.match_stills(seen, 8, [Still("other", other)], SCALE, lambda _: None)[0] == []
    assert [pair.name for pair in matcher.coarse_calls] == ["other"]
