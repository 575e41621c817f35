"""Numbers of key-frames and references in batches: few sizes, with the paper's frequencies."""

import numpy as np
import pytest

from ldip_jax.data.crop_spec import draw_counts


@pytest.mark.parametrize(
    ("keys", "references"), [((1, 3), (1, 5)), ((1, 1), (2, 2)), ((1, 4), (3, 4)), ((2, 3), (1, 1))]
)
def test_all_numbers_are_equally_frequent_in_at_most_two_sizes(keys, references):
    rng = np.random.default_rng(0)
    sizes, counts = set(), np.zeros((2, 8))
    for _ in range(4000):
        numbers = draw_counts(rng, keys, references)
        sizes.add(numbers.slots)
        for i, (low, high) in enumerate((numbers.key_frames, numbers.references)):
            assert high <= numbers.slots[i]
            counts[i, low : high + 1] += 1.0 / (high - low + 1)
    assert len(sizes) <= 2
    for i, (low, high) in enumerate((keys, references)):
        assert not np.delete(counts[i], np.arange(low, high + 1)).any()
        np.testing.assert_allclose(counts[i, low : high + 1] / 4000, 1.0 / (high - low + 1), atol=0.025)
    assert draw_counts(rng, keys, references, large=True).slots == (keys[1], references[1])
