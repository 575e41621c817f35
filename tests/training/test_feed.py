"""Live training data: everything drawn is matched and used, alike for any number of processes."""

from functools import partial

import jax
import numpy as np
import pytest

from configs.common import base, finish
from ldip_jax.data.clips import draw_unrelated_frame
from ldip_jax.data.crops import cut_sample, matched_share, place_crop
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.networks.basicvsr import BasicVSR
from ldip_jax.training import feed
from ldip_jax.training.config import crop_spec
from ldip_jax.training.feed import Feed, validation_samples
from ldip_jax.training.setup import Run
from ldip_jax.weights.load import Weights
from tests.data.footage import Coordinates
from tests.training.batches import exact_work

RUN = Run(LDIP(BasicVSR()), Weights("seeded", "basicvsr", {}, {}, "0" * 64, "", []), {}, {}, {})


class Exact:
    """Stands in for the frozen networks; records how many of each clip's candidates were matched."""

    def __init__(self, spec, pairs):
        self.spec, self.pairs = spec, pairs

    def __call__(self, clips, rngs, others, sides):
        samples = []
        for clip, rng, other in zip(clips, rngs, others, strict=True):
            self.pairs.append(int((clip.candidates >= 0).sum()))
            record = exact_work(clip)
            place = place_crop(record, rng, self.spec, sides, partial(matched_share, record))
            samples.append(cut_sample(record, place, other, rng, self.spec))
        return samples

    def takes(self, sizes):
        return True


@pytest.fixture
def config():
    config = finish(base(), "debug")
    config.batch_size = 4
    config.data.key_frames, config.data.references, config.data.fewest_references = 3, 4, 1
    return config


@pytest.fixture(autouse=True)
def matched(monkeypatch):
    pairs = []
    monkeypatch.setattr(feed, "make_live_sampler", lambda config, *_: Exact(crop_spec(config), pairs))
    return pairs


def batches(config, count=2, process=(0, 1), next_index=0):
    with Feed(config, RUN, process, next_index) as stream:
        return [next(stream) for _ in range(count)]


def test_every_match_is_used(config, matched):
    used = [int(valid.sum()) for batch in batches(config, 6) for valid in batch.valid]
    assert used == matched
    assert len(set(used)) > 4
    del matched[:]
    held = validation_samples(config, RUN)
    assert [int(batch.valid.sum()) for batch in held] == matched


def test_all_numbers_of_key_frames_and_references_occur(config):
    """Their frequencies are tested with `draw_numbers`."""
    config.data.references, config.data.fewest_references = 2, 1
    config.batch_size = 2
    keys, references = set(), set()
    for batch in batches(config, 14):
        for found, valid in zip(batch.key_valid, batch.valid, strict=True):
            keys.add(int(found.sum()))
            references |= set(valid.sum(axis=1)[found > 0].astype(int).tolist())
    assert keys == {1, 2, 3}
    assert references == {1, 2}


def test_slots_have_two_sizes_and_the_largest_comes_first(config):
    config.batch_size = 2
    found = [batch.valid.shape[1:] for batch in batches(config, 6)]
    assert found[0] == (3, 4)
    assert set(found) == {(2, 2), (3, 4)}
    config.data.scale = (2.0, 4.0)
    assert batches(config, 1)[0].step.tolist() == [[0.5, 0.5]] * 2


def test_samples_depend_neither_on_the_number_of_processes_nor_on_the_start(config):
    config.data.distractors = 1.0
    one_process = batches(config)
    shares = [batches(config, process=(index, 2)) for index in range(2)]
    for number, whole in enumerate(one_process):
        for index, share in enumerate(shares):
            part = share[number]
            np.testing.assert_array_equal(part.hr, whole.hr[index::2])
            np.testing.assert_array_equal(part.images, whole.images[index::2])
            np.testing.assert_array_equal(part.confidence, whole.confidence[index::2])
    (again,) = batches(config, 1, next_index=4)
    jax.tree.map(np.testing.assert_array_equal, again, one_process[1])


def test_an_unrelated_image_comes_from_a_clip_of_another_still():
    clips = [Coordinates(name=name) for name in ("a move 0", "a move 1", "b move 0")]
    for seed in range(20):
        for clip in clips:
            clip.decoded.clear()
        draw_unrelated_frame(clips, "a move 1", np.random.default_rng(seed))
        assert [len(clip.decoded) for clip in clips] == [0, 0, 1]
    # If there is only one clip, it is used.
    assert draw_unrelated_frame(clips[:1], "a move 0", np.random.default_rng(0)).shape == (24, 36, 3)
