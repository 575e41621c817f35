"""The features of a clip's windows, each of which continues the one before it.

Frames that two windows share have other features in each, because the recurrence has seen other frames. Where
one window simply takes over from the other, some clips jump. So a window keeps the features that the one
before it has for their common frames up to the seam, and then goes over to its own, frame by frame.
"""

import jax.numpy as jnp

from ldip_jax.inference.programs import Programs, mix
from ldip_jax.inference.spill import Held, Holder, load
from ldip_jax.inference.streaming import Advance, TileLayout, Window, WindowFeatures
from ldip_jax.ops.grid import Grid


class WindowChain:
    """Gives the features of windows in order. A window may be left out."""

    def __init__(
        self, programs: Programs, layout: TileLayout, grid: Grid | None, overlap: int, advance: Advance
    ):
        """
        Args:
            programs, layout, grid, advance: as for `WindowFeatures`.
            overlap: frames that windows share on either side of a seam.
        """
        self._programs, self._layout, self._grid, self._advance = programs, layout, grid, advance
        self._overlap = overlap
        self._holder = Holder(layout.spill)
        self._window: Window | None = None
        # A window that was left out, whose features the next one may need; or these features.
        self._left_out: Window | None = None
        self._before: list[Held] | None = None
        self._current: list[Held] | None = None

    def begin(self, window: Window) -> None:
        """Go on to the next window."""
        self._left_out = self._window if self._current is None else None
        self._before, self._current = self._current, None
        self._window = window

    def features(self, window: Window) -> WindowFeatures:
        """The features of the window that was begun last."""
        assert window is self._window, "take a window's features before the next window begins"
        before, self._before = self._before, None
        if window.first and before is None:
            assert self._left_out is not None, "windows begin one after the other"
            before = self._passed_on(self._features_of(self._left_out))
        self._left_out = None
        features = self._features_of(window)
        # What is passed on is not mixed, so that a window depends on no more than one other.
        self._current = [] if window.last else self._passed_on(features)
        for place, held in enumerate(before or ()):
            share = (place - window.keep.start + 0.5) / self._overlap
            if share > 0:
                both = mix(load(held), load(features.features[place]), jnp.float32(share))
                held = self._holder.hold(both)
            features.features[place] = features.in_flight.add(held)
        return features

    def _features_of(self, window: Window) -> WindowFeatures:
        """The features of a window by itself."""
        return WindowFeatures(
            self._programs, window.frames, self._advance, self._grid, self._layout, self._holder
        )

    def _passed_on(self, features: WindowFeatures) -> list[Held]:
        """The features of the frames that the next window holds too."""
        return features.features[-2 * self._overlap :]
