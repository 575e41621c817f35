"""How stills from cameras are screened, with a matcher that knows where everything is."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.inference import screening
from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.references import (
    ReferenceChoice,
    ReferenceFinder,
    ReferenceRules,
    WindowFrames,
    read_choice,
)
from ldip_jax.inference.screening import BLURRED, UNLIKE, calibrate, find_damage, rejection_reason
from ldip_jax.matching.calibration import Calibration
from ldip_jax.matching.evidence import Evidence
from ldip_jax.matching.matcher import Match, Pair
from ldip_jax.ops.blur import gaussian_blur
from ldip_jax.ops.warp import pixel_grid
from tests.scenes import blocks

HR, SCALE = (96, 128), (4.0, 4.0)
# Away from black and white, so that no alteration clips.
SCENE = (0.1 + 0.6 * blocks(9, *HR)).astype(np.float32)
ALTERED = {
    "exposure": 0.8 * SCENE,
    "brighter": 1.25 * SCENE,
    "gamma": SCENE**1.3,
    "white": SCENE * np.array([1.1, 1.0, 0.85], np.float32),
}


def blurred(image, sigma):
    return np.asarray(gaussian_blur(jnp.asarray(image)[None], (sigma, sigma)))[0]


ANCHOR = jnp.asarray(blurred(SCENE, 1.5))[None]


class SamePlaceMatcher:
    """Matches every pixel with the same place, with full confidence."""

    def coarse(self, pair):
        h, w = pair.reference.shape[1:3]
        size = jnp.array([w / HR[1], h / HR[0]])[None, None, None]
        return Match((pixel_grid(*HR)[None] + 0.5) * size - 0.5, jnp.ones((1, *HR, 1)))

    def refine(self, pair, match, scale):
        return match


def find(image, rules=None, mask=None):
    finder = ReferenceFinder(SamePlaceMatcher(), rules or ReferenceRules(0))
    clip = WindowFrames(0, [ANCHOR[:, ::4, ::4]], lambda place: ANCHOR)
    altered = Still("still", np.clip(image, 0, 1).astype(np.float32), mask=mask)
    references, (choice,) = finder.match_stills(clip, 0, [altered], SCALE, lambda _: None)
    assert len(references) == choice.used
    return references, choice


def image_of(reference):
    h, w = np.asarray(reference.size)[0]
    return np.asarray(reference.image)[0, :h, :w]


def test_an_unaltered_still_is_used_bit_for_bit():
    (reference,), choice = find(SCENE)
    assert choice == ReferenceChoice("still", 1.0, used=True)
    assert choice.note == ""
    np.testing.assert_array_equal(image_of(reference), SCENE)


@pytest.mark.parametrize("how", ALTERED)
def test_an_altered_still_is_calibrated(how):
    (reference,), choice = find(ALTERED[how])
    assert choice.used
    assert choice.calibration is not None
    assert choice.note.startswith("calibrated: exposure ")
    error = np.abs(image_of(reference) - SCENE).mean()
    assert error < 0.2 * np.abs(ALTERED[how] - SCENE).mean()


def test_as_given_stills_are_not_changed():
    for image in (ALTERED["exposure"], blurred(SCENE, 2.0), np.full_like(SCENE, 0.5)):
        (reference,), choice = find(image, ReferenceRules(0, as_given=True))
        assert choice == ReferenceChoice("still", 1.0, used=True)
        np.testing.assert_array_equal(image_of(reference), image)


@pytest.mark.parametrize("how", ["", "exposure"])
def test_a_blurred_still_is_rejected(how):
    _, choice = find(blurred(ALTERED.get(how, SCENE), 2.0))
    assert (choice.used, choice.reason) == (False, BLURRED)
    assert choice.note == f"not used: {BLURRED}"


@pytest.mark.parametrize("noise", [0.0, 3.0])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_uniform_still_matches_nothing(rng, value, noise):
    _, choice = find(value + noise / 255 * rng.standard_normal(SCENE.shape))
    assert (choice.used, choice.share, choice.reason) == (False, 0.0, UNLIKE)


def test_a_threshold_of_0_rejects_nothing():
    for image in (blurred(SCENE, 2.0), np.full_like(SCENE, 0.5)):
        assert find(image, ReferenceRules(0, threshold=0.0))[1].used


def test_a_mask_is_applied_before_the_threshold():
    mask = np.zeros(HR, np.float32)
    mask[:4] = 1.0
    _, choice = find(SCENE, mask=mask)
    assert choice.share == pytest.approx(4 / 96)
    assert choice.note == "not used: matches too little"
    mask[:24] = 1.0
    (reference,), choice = find(SCENE, mask=mask)
    assert choice.share == pytest.approx(0.25)
    np.testing.assert_array_equal(np.asarray(reference.confidence)[0, ..., 0], mask)


def test_masked_parts_do_not_affect_calibration():
    """Half of the still is painted over."""
    painted = 0.8 * SCENE
    painted[:, :64] = np.sqrt(SCENE[:, :64])
    mask = np.zeros(HR, np.float32)
    mask[:, 64:] = 1.0
    (reference,), choice = find(painted, mask=mask)
    assert choice.calibration is not None
    assert choice.calibration.stops == pytest.approx(0.71, abs=0.1)
    assert np.abs(image_of(reference) - SCENE)[:, 72:].mean() < 0.015


def test_a_smaller_still_is_calibrated_too():
    small = SCENE.reshape(48, 2, 64, 2, 3).mean((1, 3))
    pair = Pair(ANCHOR, 0.8 * small[None])
    pair, found = calibrate(pair, SamePlaceMatcher().coarse(pair), SCALE)
    assert found is not None
    assert found.stops == pytest.approx(0.71, abs=0.08)
    assert np.abs(np.asarray(pair.reference)[0] - small).mean() < 0.02


def test_a_still_identical_to_the_anchor_is_not_rejected():
    pair = Pair(ANCHOR, np.asarray(ANCHOR))
    assert rejection_reason(pair, SamePlaceMatcher().coarse(pair), SCALE) == ""


@pytest.mark.parametrize(
    ("likeness", "share", "reason"),
    [(0.6, 1.0, UNLIKE), (0.7, 1.0, ""), (0.85, 0.1, UNLIKE), (0.95, 0.1, "")],
)
def test_a_match_of_a_small_part_must_be_more_alike(monkeypatch, likeness, share, reason):
    monkeypatch.setattr(screening, "measure_evidence", lambda *_: Evidence(likeness, 2.0))
    pair = Pair(ANCHOR, SCENE[None])
    match = SamePlaceMatcher().coarse(pair)
    match = match._replace(confidence=match.confidence.at[:, round(share * HR[0]) :].set(0.0))
    assert rejection_reason(pair, match, SCALE) == reason


@pytest.mark.parametrize(
    ("sharpness", "softened", "reason"), [(0.6, False, BLURRED), (0.6, True, ""), (0.3, True, BLURRED)]
)
def test_beside_softened_frames_a_still_may_seem_less_sharp(monkeypatch, sharpness, softened, reason):
    monkeypatch.setattr(screening, "measure_evidence", lambda *_: Evidence(0.95, sharpness))
    pair = Pair(ANCHOR, SCENE[None])
    assert rejection_reason(pair, SamePlaceMatcher().coarse(pair), SCALE, softened=softened) == reason


def test_only_a_damaged_key_frame_of_the_same_scene_counts_as_damaged(rng):
    """Blur does not count, and neither does a frame of another scene."""
    blocky = 0.1 * rng.standard_normal((HR[0] // 4, HR[1] // 4, 3)).repeat(4, 0).repeat(4, 1)
    match = SamePlaceMatcher().coarse(Pair(ANCHOR, SCENE[None]))

    def damage(anchor):
        return find_damage(Pair(jnp.asarray(anchor, jnp.float32)[None], SCENE[None]), match, SCALE)

    assert damage(blurred(SCENE, 1.5)) == 0.0
    assert damage(blurred(SCENE + blocky, 1.5)) > 0.9
    assert damage(blocks(10, *HR)) == 0.0
    assert find(SCENE)[1].damage == 0.0


def test_choices_survive_a_json_round_trip():
    for choice in (
        ReferenceChoice("a", 0.5, used=True, calibration=Calibration((1.25, 1.0, 0.5), 0.8)),
        ReferenceChoice("frame 3", 0.25, used=True, is_self_reference=True),
        ReferenceChoice("b", 0.0, used=False, reason=UNLIKE),
        ReferenceChoice("c", 0.6, used=True, damage=0.25),
    ):
        assert read_choice(json.loads(json.dumps(choice.as_json()))) == choice
