"""Live training data: what is drawn is what is matched and used, and the same for any number of processes."""

import jax
import numpy as np
import pytest

from configs.common import base, finish
from ldip_jax.data.clips import unrelated
from ldip_jax.models.backbone.basicvsr import BasicVSR
from ldip_jax.models.ldip import LDIP
from ldip_jax.training import feed
from ldip_jax.training.feed import Feed, validation_samples
from ldip_jax.training.frozen import FrozenWork
from ldip_jax.training.setup import Run
from ldip_jax.weights.load import Weights
from tests.data.footage import Coordinates
from tests.training.batches import exact_work

RUN = Run(LDIP(BasicVSR()), Weights("seeded", "basicvsr", {}, {}, "0" * 64, "", []), {}, {}, {})


class Exact(FrozenWork):
    """Stands in for the frozen networks; notes how many candidates each clip had matched."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __call__(self, clip):
        self.pairs.append(int((clip.candidates >= 0).sum()))
        return exact_work(clip)


@pytest.fixture
def config():
    config = finish(base(), "debug")
    config.batch_size = 4
    config.data.key_frames, config.data.references, config.data.fewest_references = 3, 4, 1
    return config


@pytest.fixture(autouse=True)
def matched(monkeypatch):
    pairs = []
    monkeypatch.setattr(feed, "frozen_work", lambda config, run: Exact(pairs))
    return pairs


def batches(config, count=2, process=(0, 1), next_index=0):
    with Feed(config, RUN, process, next_index) as stream:
        return [next(stream) for _ in range(count)]


def test_nothing_is_matched_in_vain(config, matched):
    used = [int(valid.sum()) for batch in batches(config, 6) for valid in batch.valid]
    assert used == matched
    assert len(set(used)) > 4
    del matched[:]
    held = validation_samples(config, RUN)
    assert [int(batch.valid.sum()) for batch in held] == matched


def test_numbers_are_those_of_the_paper(config):
    config.data.references, config.data.fewest_references = 2, 1
    drawn = [
        (keys.sum(), *valid.sum(axis=1)[keys > 0])
        for batch in batches(config, 25)
        for keys, valid in zip(batch.key_valid, batch.valid, strict=True)
    ]
    keys = np.bincount([int(sample[0]) for sample in drawn], minlength=4)
    assert keys[0] == 0
    # A third of 100 each.
    assert (abs(keys[1:] - 33) < 18).all()
    references = [n for sample in drawn for n in sample[1:]]
    assert set(references) == {1, 2}
    assert abs(np.mean(references) - 1.5) < 0.15


def test_samples_are_the_same_whatever_the_number_of_processes_and_where_it_began(config):
    config.data.distractors = 1.0
    alone = batches(config)
    shares = [batches(config, process=(index, 2)) for index in range(2)]
    for number, whole in enumerate(alone):
        k, n = whole.valid.shape[1:]
        for index, share in enumerate(shares):
            part = share[number]
            assert not part.valid[:, k:].any()
            assert not part.valid[:, :, n:].any()
            np.testing.assert_array_equal(part.hr, whole.hr[index::2])
            np.testing.assert_array_equal(part.images[:, :k, :n], whole.images[index::2])
            np.testing.assert_array_equal(part.confidence[:, :k, :n], whole.confidence[index::2])
    (again,) = batches(config, 1, next_index=4)
    jax.tree.map(np.testing.assert_array_equal, again, alone[1])


def test_an_unrelated_image_is_of_another_clip_and_another_still():
    clips = [Coordinates(name=name) for name in ("a move 0", "a move 1", "b move 0")]
    for seed in range(20):
        for clip in clips:
            clip.decoded.clear()
        unrelated(clips, "a move 1", np.random.default_rng(seed))
        assert [len(clip.decoded) for clip in clips] == [0, 0, 1]
    # One clip alone has to do.
    assert unrelated(clips[:1], "a move 0", np.random.default_rng(0)).shape == (24, 36, 3)
