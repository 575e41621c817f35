"""Windows that continue one another: what a window takes from the one before it, and at what cost."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.inference import window_chain as module
from ldip_jax.inference.in_flight import InFlight
from ldip_jax.inference.spill import Spilled, load
from ldip_jax.inference.streaming import TileLayout, WindowFeatures, windows
from ldip_jax.inference.tiles import whole
from ldip_jax.inference.window_chain import WindowChain

OVERLAP, LENGTH = 4, 14


class Features(WindowFeatures):
    """Features without networks: each is the number of its window."""

    computed: ClassVar[list[int]] = []

    def __init__(self, programs, frames, advance, grid, layout, holder):
        self.computed.append(frames[0])
        number = frames[0] // (LENGTH - 2 * OVERLAP)
        self.features = [holder.hold(jnp.full((1, 2, 3, 4), number, jnp.float32)) for _ in frames]
        self.in_flight = InFlight()


@pytest.fixture
def chain(programs, monkeypatch):
    """Returns a function that makes chains over such windows."""
    monkeypatch.setattr(module, "WindowFeatures", Features)
    monkeypatch.setattr(Features, "computed", [])

    def make(spill=False):
        layout = TileLayout(whole((2, 3)), whole((2, 3)), spill)
        return WindowChain(programs, layout, None, OVERLAP, lambda _: None)

    return make


def values(features):
    return [float(load(held)[0, 0, 0, 0]) for held in features.features]


@pytest.mark.parametrize("spill", [False, True])
def test_a_window_blends_from_the_previous_features_to_its_own(chain, spill):
    links = chain(spill)
    found = []
    for window in windows(range(30), LENGTH, OVERLAP):
        links.begin(window)
        features = links.features(window)
        assert all(isinstance(held, Spilled) == spill for held in features.features)
        found.append(values(features))
    assert len(found) == 4
    assert found[0] == [0.0] * LENGTH
    ramp = [0.125, 0.375, 0.625, 0.875]
    for number, one in enumerate(found[1:], start=1):
        # Up to the seam, those of the previous window before blending; then more and more its own.
        assert one[:OVERLAP] == [number - 1.0] * OVERLAP
        np.testing.assert_allclose(one[OVERLAP : 2 * OVERLAP], [number - 1 + share for share in ramp])
        assert set(one[2 * OVERLAP :]) == {float(number)}
    assert Features.computed == [0, 6, 12, 18]


def test_a_window_needs_only_the_one_before_it(chain):
    everything, part = chain(), chain()
    computed = []
    for window in windows(range(30), LENGTH, OVERLAP):
        everything.begin(window)
        part.begin(window)
        whole = values(everything.features(window))
        if window.first == 12:
            Features.computed.clear()
            assert values(part.features(window)) == whole
            computed = list(Features.computed)
    assert computed == [6, 12]


def test_a_single_window_is_not_changed(chain):
    links = chain()
    (window,) = windows(range(LENGTH), LENGTH, OVERLAP)
    links.begin(window)
    assert values(links.features(window)) == [0.0] * LENGTH


def test_features_of_an_earlier_window_are_refused(chain):
    links = chain()
    first, second = list(windows(range(LENGTH + 1), LENGTH, OVERLAP))
    links.begin(first)
    links.begin(second)
    with pytest.raises(AssertionError, match="before the next window begins"):
        links.features(first)
