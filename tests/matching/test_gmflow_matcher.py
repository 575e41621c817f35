"""The whole default matcher, with the published weights."""

import numpy as np
import pytest

from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.shortlist import rank_stills
from ldip_jax.matching.dense import resize_image
from ldip_jax.matching.density import median_scale
from ldip_jax.matching.gmflow import GMFlowMatcher
from ldip_jax.matching.matcher import Pair, confident_share
from tests.published import published_params
from tests.scenes import blocks

# GMFlow enlarges the longer side to 512, so frames are wide.
H, W = 96, 256


@pytest.fixture(scope="session")
def matcher():
    return GMFlowMatcher(published_params("gmflow"), published_params("basicvsr-reds4")["spynet"])


@pytest.fixture(scope="module")
def scene():
    return blocks(seed=5, height=144, width=320)[None]


def test_an_enlarged_part_of_the_scene_is_found(matcher, scene):
    """The anchor is soft; the reference shows a part of it, twice as large, with another aspect ratio."""
    anchor = resize_image(resize_image(scene[:, :H, :W], (H // 2, W // 2)), (H, W))
    top, left, rows, columns = 10, 20, 80, 220
    reference = resize_image(scene[:, top : top + rows, left : left + columns], (2 * rows, 2 * columns))
    pair = Pair(anchor, reference)
    coarse = matcher.coarse(pair)
    refined = matcher.refine(pair, coarse, (2.0, 2.0))
    pixels = np.stack(np.meshgrid(np.arange(W), np.arange(H)), -1).astype(np.float32)[None]
    true = 2.0 * (pixels - np.float32([left, top]) + 0.5) - 0.5
    confident = np.logical_and(*(np.asarray(match.confidence)[..., 0] > 0.5 for match in (coarse, refined)))
    assert confident[:, top + 10 : top + rows - 10, left + 10 : left + columns - 10].mean() > 0.8
    assert abs(median_scale(coarse.warp, coarse.confidence) - 2.0) < 0.1
    # In pixels of the reference, two of which correspond to one of the key-frame.
    for match in (coarse, refined):
        assert np.median(np.linalg.norm(match.warp - true, axis=-1)[confident]) < 0.8


@pytest.mark.parametrize("seed", [0, 1])
def test_stills_of_the_scene_rank_before_others_in_any_order(matcher, scene, seed):
    soft = resize_image(resize_image(scene[:, :H, :W], (H // 4, W // 4)), (H, W))
    right = [Still(f"right{x}", scene[0, x : x + 90, 2 * x : 2 * x + 240]) for x in (12, 36)]
    wrong = [Still(f"wrong{n}", blocks(seed=10 * (seed + 1) + n, height=90, width=240)) for n in range(6)]
    stills = right + wrong
    np.random.default_rng(seed).shuffle(stills)
    rows = rank_stills(matcher, soft, stills)
    assert {row.still.name for row in rows[:2]} == {"right12", "right36"}
    assert [row.likely for row in rows[:2]] == [True] * 2


def test_an_unrelated_reference_is_not_trusted(matcher, scene):
    other = blocks(seed=6, height=H, width=W)[None]
    assert confident_share(matcher.coarse(Pair(scene[:, :H, :W], other)).confidence) < 0.02
