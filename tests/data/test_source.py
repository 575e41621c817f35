"""Streams of samples: order, shares of processes, resuming, workers, errors."""

from functools import partial
from itertools import chain

import numpy as np
import pytest

from ldip_jax.data.clips import ClipSample, SamplingSpec, draw_sample
from ldip_jax.data.source import SampleStream
from ldip_jax.data.synthetic import SyntheticClips
from ldip_jax.errors import InputError


def tagged(item, rng):
    """A sample that names its source."""
    if item == "broken":
        raise InputError("broken: cannot be read; remove it")
    return item, int(rng.integers(2**60))


ITEMS = [f"clip{number}" for number in range(7)]


def stream(items=ITEMS, **options):
    return SampleStream(items, tagged, **{"seed": 3, "batch_size": 4, **options})


def take(stream, batches):
    with stream:
        return [next(stream) for _ in range(batches)]


def test_each_epoch_has_every_item_once_in_its_own_order():
    samples = [*chain(*take(stream(), 14))]
    epochs = [[name for name, _ in samples[7 * i : 7 * i + 7]] for i in range(8)]
    assert all(sorted(epoch) == ITEMS for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 6
    # No two epochs draw the same from an item.
    assert len(set(samples)) == len(samples)


def test_same_seed_same_batches():
    assert take(stream(), 5) == take(stream(), 5)
    assert take(stream(), 5) != take(stream(seed=4), 5)


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_batches_that_one_would_have(count):
    single = take(stream(), 6)
    shares = [take(stream(process=(index, count)), 6) for index in range(count)]
    for batch, *parts in zip(single, *shares, strict=True):
        assert all(len(part) == 4 // count for part in parts)
        assert sorted(batch) == sorted(chain(*parts))


def test_a_stream_resumes_in_the_middle_of_an_epoch():
    whole = take(stream(), 8)
    first = stream()
    assert [next(first) for _ in range(3)] == whole[:3]
    assert first.state == {"next_index": 12}
    first.close()
    assert take(stream(**first.state), 5) == whole[3:]
    # Also with another number of processes.
    shares = [take(stream(process=(index, 2), **first.state), 5) for index in range(2)]
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(batch) for batch in whole[3:]]
    first.seek(4)
    assert take(first, 2) == whole[1:3]


def test_errors_are_raised_unchanged_and_impossible_batches_are_refused():
    with (
        stream(["broken"]) as broken,
        pytest.raises(InputError, match=r"^broken: cannot be read"),
    ):
        next(broken)
    with pytest.raises(InputError, match="batch_size 4: 3 processes"):
        stream(process=(0, 3))
    with pytest.raises(InputError, match="nothing to train on"):
        stream([])


def test_workers_change_nothing_and_pass_errors_on():
    items = [*ITEMS, "broken"]
    with stream(items, workers=1) as elsewhere, stream(items) as here:
        for _ in range(2):
            try:
                batch = next(here)
            except InputError as error:
                with pytest.raises(InputError, match=rf"^{error}$"):
                    next(elsewhere)
                break
            assert next(elsewhere) == batch
        else:
            pytest.fail("an epoch without the broken item")


def test_clip_samples_of_synthetic_scenes():
    spec = SamplingSpec(context_frames=4, target_frames=2, max_key_frames=2, max_references=2)
    clips = SyntheticClips((32, 48), 6, scenes=3)

    def batches(**options) -> list[list[ClipSample]]:
        return take(SampleStream(clips, partial(draw_sample, spec), seed=0, batch_size=2, **options), 2)

    for a, b in zip(chain(*batches()), chain(*batches()), strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.hr, b.hr)
        np.testing.assert_array_equal(a.warps, b.warps)
