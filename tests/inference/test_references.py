"""Which references a key-frame gets, with a matcher whose answers are prescribed."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.references import (
    CANVAS_MULTIPLE,
    MATCHES_TOO_LITTLE,
    ReferenceChoice,
    ReferenceFinder,
    ReferenceRules,
    WindowFrames,
    on_canvas,
)
from ldip_jax.inference.spill import Holder, Spilled
from ldip_jax.matching.dense import DenseMatcher
from ldip_jax.matching.matcher import Match, rescale
from ldip_jax.matching.refine import Refiner

LR, HR, COUNT, FIRST = (6, 8), (24, 32), 20, 100
SCALE = (4.0, 4.0)


def confident_rows(share):
    """Confidence 1 in the top rows and 0 below."""
    rows = round(share * HR[0])
    confidence = np.zeros((1, *HR, 1), np.float32)
    confidence[:, :rows] = 1.0
    return jnp.asarray(confidence)


def identity(reference):
    """Every key-frame pixel's place in an image of the same scene."""
    y, x = np.mgrid[: HR[0], : HR[1]].astype(np.float32)
    h, w = reference.shape[1:3]
    places = np.stack([(x + 0.5) * w / HR[1] - 0.5, (y + 0.5) * h / HR[0] - 0.5], axis=-1)
    return jnp.asarray(places[None], jnp.float32)


class StubMatcher:
    """Matches a prescribed share of each reference, by its name, and records its calls."""

    def __init__(self, shares, default=1.0):
        self.shares, self.default = shares, default
        self.coarse_calls, self.refine_calls = [], []

    def coarse(self, pair):
        self.coarse_calls.append(pair)
        share = self.shares.get(pair.name, self.default)
        return Match(identity(pair.reference), confident_rows(share))

    def refine(self, pair, match, scale):
        self.refine_calls.append((pair, scale))
        return Match(match.warp + 0.25, match.confidence)


def frame(index):
    return jnp.full((1, *LR, 3), index / 1000, jnp.float32)


def clip(count=COUNT):
    def image(place):
        return jnp.full((1, *HR, 3), place / 1000, jnp.float32)

    return WindowFrames(FIRST, [frame(FIRST + place) for place in range(count)], image)


def still(name, size=HR):
    value = np.float32((sum(map(ord, name)) % 50) / 100 + 0.3)
    return Still(name, np.full((*size, 3), value, np.float32))


def as_given(rules):
    """Rules by which uniformly grey stills are not rejected."""
    return replace(rules, as_given=True)


def find(shares, stills, rules=None, *, place=8, count=COUNT, default=1.0):
    matcher = StubMatcher(shares, default)
    advanced = []
    finder = ReferenceFinder(matcher, as_given(rules or ReferenceRules(5)))
    seen = clip(count)
    of_stills = finder.match_stills(seen, place, stills, SCALE, advanced.append)
    references, choices = finder.add_self_references(seen, place, of_stills, SCALE, advanced.append)
    assert advanced == ["match"] * len(matcher.coarse_calls)
    assert len(references) == sum(choice.used for choice in choices)
    return references, choices, matcher


def both(finder, still):
    """References of the first frame: a still and self-references."""
    of_stills = finder.match_stills(clip(), 0, [still], SCALE, lambda _: None)
    return finder.add_self_references(clip(), 0, of_stills, SCALE, lambda _: None)


def names(choices, used=True):
    return [choice.name for choice in choices if choice.used is used]


def test_stills_come_first_by_matched_share_then_self_references():
    stills = [still("a"), still("b"), still("c")]
    _, choices, matcher = find({"a": 0.25, "b": 0.75, "c": 0.5}, stills)
    assert names(choices) == ["b", "c", "a", "frame 100", "frame 119"]
    assert [choice.is_self_reference for choice in choices] == [False] * 3 + [True] * 2
    assert [choice.share for choice in choices[:3]] == pytest.approx([0.75, 0.5, 0.25])
    assert {pair.key_frame for pair in matcher.coarse_calls} == {FIRST + 8}


def test_by_default_self_references_are_used_only_where_no_still_is():
    stills = [still("a"), still("b")]
    _, choices, matcher = find({"a": 0.0, "b": 0.5}, stills, ReferenceRules())
    assert names(choices) == ["b"]
    assert len(matcher.coarse_calls) == 2
    for shares, images in (({"a": 0.0, "b": 0.0}, stills), ({}, [])):
        references, choices, _ = find(shares, images, ReferenceRules())
        assert sum(choice.is_self_reference for choice in choices) == len(references) == 5
        assert names(choices, used=False) == [image.name for image in images]


def test_a_useless_still_is_dropped_and_takes_no_slot():
    references, choices, _ = find({"bad": 0.0, "good": 0.5}, [still("bad"), still("good")])
    assert names(choices, used=False) == ["bad"]
    assert names(choices)[0] == "good"
    assert len(references) == 5


def test_a_share_equal_to_the_threshold_suffices():
    one_row = 1 / HR[0]
    for threshold, used in ((one_row, True), (one_row + 1e-3, False), (0.0, True), (1.0, False)):
        _, choices, _ = find({"a": one_row}, [still("a")], ReferenceRules(0, 5, threshold))
        assert [choice.used for choice in choices] == [used]
    _, choices, _ = find({"nothing": 0.0}, [still("nothing")], ReferenceRules(0, 5, 0.0))
    assert names(choices) == ["nothing"]


def test_more_stills_than_slots_are_all_used():
    stills = [still(f"s{number}") for number in range(7)]
    _, choices, _ = find({}, stills)
    assert len(names(choices)) == 7
    assert not any(choice.is_self_reference for choice in choices)


def test_there_are_at_least_as_many_slots_as_stills():
    """Two of seven stills are useless: their slots go to self-references, as with fewer stills."""
    stills = [still(f"s{number}") for number in range(7)]
    _, choices, _ = find({"s2": 0.0, "s5": 0.0}, stills)
    assert sum(choice.is_self_reference for choice in choices) == 2
    assert len(names(choices)) == 7


def test_with_self_references_disabled_useless_stills_are_not_replaced():
    _, choices, matcher = find({"a": 0.0}, [still("a")], ReferenceRules(self_refs=0))
    assert choices == [ReferenceChoice("a", 0.0, used=False, reason=MATCHES_TOO_LITTLE)]
    assert len(matcher.coarse_calls) == 1
    references, choices, _ = find({}, [], ReferenceRules(self_refs=0))
    assert (references, choices) == ([], [])


@pytest.mark.parametrize("exclude", [0, 2, 9])
def test_frames_near_the_key_frame_are_not_references(exclude):
    _, choices, _ = find({}, [], ReferenceRules(100, exclude, 0.05))
    assert names(choices) == [f"frame {FIRST + i}" for i in range(COUNT) if abs(i - 8) > exclude]


def test_a_short_clip_may_have_no_references():
    references, choices, _ = find({}, [], place=0, count=6)
    assert (references, choices) == ([], [])


def test_a_self_reference_is_matched_upscaled_but_used_at_its_own_size():
    references, _, matcher = find({}, [], ReferenceRules(1, 5, 0.05), place=0)
    (pair,) = matcher.coarse_calls
    assert pair.name == "frame 106"
    np.testing.assert_array_equal(pair.anchor, clip().backbone_image(0))
    np.testing.assert_array_equal(pair.reference, clip().backbone_image(6))
    (reference,) = references
    h, w = LR
    np.testing.assert_array_equal(reference.size, [[h, w]])
    np.testing.assert_array_equal(reference.image[:, :h, :w], frame(106))
    # Refined at the size of the match, then converted to pixels of the small frame.
    refined = matcher.refine(pair, matcher.coarse(pair), SCALE).warp
    np.testing.assert_allclose(reference.warp, rescale(refined, jnp.array([0.25, 0.25])), atol=1e-6)
    assert matcher.refine_calls[0][1] == SCALE


@pytest.mark.parametrize("is_still", [True, False])
def test_matches_are_refined_from_disk_if_maps_are_spilled(is_still):
    seen = []

    class Recorder(Refiner):
        def __call__(self, pair, match, scale):
            seen.extend([pair.reference, *match])
            return Match(*map(jnp.asarray, match))

    def no_motion(params, a, b):
        return jnp.zeros((1, *HR, 2)), jnp.zeros((1, *HR, 2))

    def found(holder):
        seen.clear()
        matcher = DenseMatcher(no_motion, {}, lambda size: size, Recorder({}))
        finder = ReferenceFinder(matcher, as_given(ReferenceRules(0 if is_still else 1)))
        window = replace(clip(), hold=holder.hold)
        of_stills = finder.match_stills(window, 0, [still("a")] if is_still else [], SCALE, lambda _: None)
        references, _ = finder.add_self_references(window, 0, of_stills, SCALE, lambda _: None)
        return references[0], [isinstance(x, Spilled) for x in seen]

    plain, on_disk = found(Holder(False))
    assert on_disk == [False] * 3
    spilled, on_disk = found(Holder(True))
    assert on_disk == [True] * 3
    for one, other in zip(plain, spilled, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_places_in_a_still_are_in_its_own_pixels():
    size = (18, 26)
    references, _, matcher = find({}, [still("small", size)], ReferenceRules(0, 5, 0.05))
    (reference,) = references
    np.testing.assert_array_equal(reference.size, [size])
    np.testing.assert_allclose(reference.warp, identity(np.empty((1, *size, 3))) + 0.25, atol=1e-5)
    assert len(matcher.refine_calls) == 1


def test_a_dense_still_is_reduced_together_with_its_places():
    size = (4 * HR[0], 4 * HR[1])
    references, _, matcher = find({}, [still("dense", size)], ReferenceRules(0, 5, 0.05))
    (reference,) = references
    (pair, _), *_ = matcher.refine_calls
    assert pair.reference.shape[1:3] == HR
    np.testing.assert_array_equal(reference.size, [HR])
    np.testing.assert_allclose(reference.warp, identity(np.empty((1, *HR, 3))) + 0.25, atol=1e-4)


def test_a_canvas_is_padded_below_and_right_and_records_the_size(rng):
    image = jnp.asarray(rng.uniform(0.1, 1, (1, CANVAS_MULTIPLE + 1, 7, 3)), jnp.float32)
    match = Match(identity(image), confident_rows(0.5))
    reference = on_canvas(image, match)
    assert reference.image.shape == (1, 2 * CANVAS_MULTIPLE, CANVAS_MULTIPLE, 3)
    np.testing.assert_array_equal(reference.image[:, : CANVAS_MULTIPLE + 1, :7], image)
    assert float(jnp.sum(reference.image)) == pytest.approx(float(jnp.sum(image)), rel=1e-6)
    np.testing.assert_array_equal(reference.size, [[CANVAS_MULTIPLE + 1, 7]])
    np.testing.assert_array_equal(reference.valid, [1.0])


def test_a_still_named_like_a_frame_is_not_mistaken_for_it():
    matcher = StubMatcher({"frame 106": 0.5}, default=0.25)
    finder = ReferenceFinder(matcher, as_given(ReferenceRules(6, 5, 0.05)), remember=True)
    named = still("frame 106")
    references, choices = both(finder, named)
    again, _ = both(finder, named)
    assert [(c.name, c.is_self_reference) for c in choices[:2]] == [("frame 106", False), ("frame 106", True)]
    for found in (references, again):
        np.testing.assert_array_equal(found[0].size, [HR])
        np.testing.assert_array_equal(found[1].size, [LR])


def test_matches_are_remembered_only_on_request():
    for remember, expected in ((False, 10), (True, 5)):
        matcher = StubMatcher({})
        finder = ReferenceFinder(matcher, as_given(ReferenceRules(5)), remember=remember)
        first, choices = both(finder, still("a"))
        second, same = both(finder, still("a"))
        assert len(matcher.coarse_calls) == expected
        assert choices == same
        np.testing.assert_array_equal(first[0].warp, second[0].warp)


@pytest.mark.parametrize(
    "rules",
    [
        ReferenceRules(-1),
        ReferenceRules(5, -1),
        ReferenceRules(5, 5, -0.1),
        ReferenceRules(5, 5, 1.1),
        ReferenceRules(5, 5, np.nan),
    ],
)
def test_rules_out_of_range_are_refused(rules):
    with pytest.raises(InputError):
        rules.check()


@pytest.mark.parametrize(
    ("self_refs", "stills", "used", "free"),
    [
        (None, 0, 0, 5),
        (None, 3, 0, 5),
        (None, 3, 1, 0),
        (None, 1, 1, 0),
        (5, 0, 0, 5),
        (5, 2, 2, 3),
        (5, 2, 0, 5),
        (5, 7, 7, 0),
        (5, 7, 4, 3),
        (0, 7, 0, 0),
        (1, 2, 2, 0),
    ],
)
def test_free_slots(self_refs, stills, used, free):
    assert ReferenceRules(self_refs).free_slots(stills, used) == free
