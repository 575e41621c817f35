"""Which of many stills a key-frame is matched with, by a matcher whose answers are prescribed."""

import numpy as np
import pytest

from ldip_jax.inference import references, shortlist
from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.references import (
    LESS_ALIKE,
    MATCHES_TOO_LITTLE,
    NOT_ALIKE,
    ReferenceFinder,
    ReferenceRules,
)
from ldip_jax.inference.shortlist import FAILED_FIRST, FAILED_LATER, MATCH_ALL_UP_TO, MAX_MATCHED
from ldip_jax.matching.view import View
from tests.inference.test_references import HR, SCALE, StubMatcher, clip, names, still

RIGHT = {f"right{number}": 0.3 + 0.1 * number for number in range(5)}


class RankingMatcher(StubMatcher):
    """Stills named "right..." look like the frame, others do not."""

    def __init__(self, shares):
        super().__init__(shares, default=0.1)
        self.compared = []

    def likeness(self, pair):
        self.compared.append(pair.name)
        return 0.75 + self.shares[pair.name] / 10 if pair.name.startswith("right") else 0.7


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """Uniformly grey stills are not screened, and no view is found in them."""
    monkeypatch.setattr(references, "calibrate", lambda pair, match, scale: (pair, None))
    monkeypatch.setattr(references, "rejection_reason", lambda *_: "")
    monkeypatch.setattr(shortlist, "find_view", lambda frame, image: None)


def find(shares, stills, rules=None):
    matcher = RankingMatcher(shares)
    finder = ReferenceFinder(matcher, rules or ReferenceRules())
    advanced = []
    found, choices = finder.match_stills(clip(), 8, stills, SCALE, advanced.append)
    assert advanced == ["match"] * len(stills)
    assert len(choices) == len(stills)
    assert len(found) == sum(choice.used for choice in choices)
    return choices, [pair.name for pair in matcher.coarse_calls], matcher


@pytest.mark.parametrize("seed", range(3))
def test_the_few_right_stills_of_fifty_are_found_with_few_other_matches(seed):
    stills = [still(name) for name in RIGHT] + [still(f"wrong{number}") for number in range(45)]
    np.random.default_rng(seed).shuffle(stills)
    choices, matched, _ = find(RIGHT, stills)
    assert names(choices) == sorted(RIGHT, reverse=True)
    assert set(RIGHT) <= set(matched)
    assert len(matched) == len(RIGHT) + FAILED_LATER
    # A still that looks different needs more than the usual matched share.
    reasons = [choice.reason for choice in choices if not choice.used]
    assert (reasons.count(MATCHES_TOO_LITTLE), reasons.count(NOT_ALIKE)) == (FAILED_LATER, 45 - FAILED_LATER)


def test_if_no_still_looks_like_the_frame_a_few_are_tried():
    stills = [still(f"wrong{number}") for number in range(20)]
    choices, matched, _ = find({}, stills)
    assert names(choices) == []
    assert len(matched) == FAILED_FIRST
    choices, matched, _ = find({"wrong0": 0.3, "wrong1": 0.2}, stills)
    assert names(choices) == ["wrong0", "wrong1"]
    assert len(matched) == 2 + FAILED_LATER


def test_the_number_of_matched_stills_is_limited():
    shares = {f"right{number}": 0.5 for number in range(3 * MAX_MATCHED)}
    choices, matched, _ = find(shares, [still(name) for name in shares])
    assert len(matched) == len(names(choices)) == MAX_MATCHED
    assert [choice.reason for choice in choices if not choice.used] == [LESS_ALIKE] * 2 * MAX_MATCHED


def test_a_few_stills_are_all_matched_but_unlike_ones_need_a_larger_share():
    shares = {"wrong0": 0.1, "wrong1": 0.2, "right0": 0.1}
    stills = [still(name) for name in (*shares, "wrong2")]
    assert len(stills) == MATCH_ALL_UP_TO
    choices, matched, _ = find(shares, stills)
    assert len(matched) == MATCH_ALL_UP_TO
    assert names(choices) == ["wrong1", "right0"]
    reasons = {choice.name: choice.reason for choice in choices if not choice.used}
    assert reasons == {"wrong0": MATCHES_TOO_LITTLE, "wrong2": MATCHES_TOO_LITTLE}


@pytest.mark.parametrize("rules", [ReferenceRules(threshold=0.0), ReferenceRules(as_given=True)])
def test_stills_that_cannot_be_rejected_are_all_matched(rules):
    stills = [still(f"wrong{number}") for number in range(12)]
    choices, matched, _ = find({}, stills, rules)
    assert len(matched) == len(names(choices)) == 12


def test_a_still_with_a_moment_is_matched_whatever_it_looks_like():
    bound = Still("wrong-bound", np.full((*HR, 3), 0.4, np.float32), moment=108)
    stills = [still(f"wrong{number}") for number in range(10)] + [bound]
    choices, matched, matcher = find({}, stills)
    assert matched[0] == "wrong-bound"
    assert "wrong-bound" not in matcher.compared
    assert names(choices) == ["wrong-bound"]


def test_a_still_that_contains_the_view_counts_as_alike(monkeypatch):
    wide = still("wide", (HR[0] + 2, HR[1]))
    stills = [still(f"wrong{number}") for number in range(10)] + [wide]

    def find_view(frame, image):
        return View(0, 0, *HR, 0.9) if image is wide.image else View(0, 0, *HR, 0.65)

    monkeypatch.setattr(shortlist, "find_view", find_view)
    choices, matched, _ = find({"wide": 0.1}, stills)
    assert matched[0] == "wide"
    assert names(choices) == ["wide"]


def test_self_references_replace_only_stills_that_were_matched():
    stills = [still(name) for name in RIGHT] + [still(f"wrong{number}") for number in range(15)]
    matcher = RankingMatcher(RIGHT)
    finder = ReferenceFinder(matcher, ReferenceRules(self_refs=2))
    of_stills = finder.match_stills(clip(), 8, stills, SCALE, lambda _: None)
    _, choices = finder.add_self_references(clip(), 8, of_stills, SCALE, lambda _: None)
    assert sum(choice.is_self_reference for choice in choices) == FAILED_LATER
