"""Windows that continue each other: what a window takes from the one before it, and at what cost."""

import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.inference.in_flight import InFlight
from ldip_jax.inference.spill import Spilled, load
from ldip_jax.inference.streaming import WindowFeatures, windows
from ldip_jax.inference.window_chain import WindowChain

OVERLAP, LENGTH = 4, 14


class Features(WindowFeatures):
    """Features without networks."""

    def __init__(self, features):
        self.features, self.in_flight = features, InFlight()


class Made:
    """A chain over windows whose own features are their number; notes which were made."""

    def __init__(self, spill=False):
        self.windows = []
        self.chain = WindowChain(self.features_of, overlap=OVERLAP, spill=spill)

    def features_of(self, window, holder):
        self.windows.append(window.first)
        number = window.first // (LENGTH - 2 * OVERLAP)
        maps = [holder.hold(jnp.full((1, 2, 3, 4), number, jnp.float32)) for _ in window.frames]
        return Features(maps)


def values(features):
    return [float(load(held)[0, 0, 0, 0]) for held in features.features]


@pytest.mark.parametrize("spill", [False, True])
def test_a_window_goes_over_from_the_one_before_to_its_own(spill):
    made = Made(spill)
    found = []
    for window in windows(range(30), LENGTH, OVERLAP):
        made.chain.begin(window)
        features = made.chain.features(window)
        assert all(isinstance(held, Spilled) == spill for held in features.features)
        found.append(values(features))
    assert len(found) == 4
    assert found[0] == [0.0] * LENGTH
    ramp = [0.125, 0.375, 0.625, 0.875]
    for number, one in enumerate(found[1:], start=1):
        # Up to the seam as in the window before, before that was mixed itself; then more and more its own.
        assert one[:OVERLAP] == [number - 1.0] * OVERLAP
        np.testing.assert_allclose(one[OVERLAP : 2 * OVERLAP], [number - 1 + share for share in ramp])
        assert set(one[2 * OVERLAP :]) == {float(number)}
    assert made.windows == [0, 6, 12, 18]


def test_a_window_needs_only_the_one_before_it():
    everything, part = Made(), Made()
    for window in windows(range(30), LENGTH, OVERLAP):
        everything.chain.begin(window)
        part.chain.begin(window)
        whole = values(everything.chain.features(window))
        if window.first == 12:
            assert values(part.chain.features(window)) == whole
    assert part.windows == [6, 12]


def test_one_window_stays_as_it_is():
    made = Made()
    (window,) = windows(range(LENGTH), LENGTH, OVERLAP)
    made.chain.begin(window)
    assert values(made.chain.features(window)) == [0.0] * LENGTH


def test_features_of_a_window_that_is_past_are_refused():
    made = Made()
    first, second = list(windows(range(LENGTH + 1), LENGTH, OVERLAP))
    made.chain.begin(first)
    made.chain.begin(second)
    with pytest.raises(AssertionError, match="before the next window begins"):
        made.chain.features(first)
