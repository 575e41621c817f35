"""Calibrates a still to a clip: exposure, gamma and white balance, from pixels that show the same thing.

A camera's still may show the scene brighter, flatter or warmer than the clip does. The model is
`y = gain * x ** gamma` on R'G'B' values, with one gain per channel and one gamma. Exposure and white balance
act on gamma-coded values as gains, as far as the transfer function is a power law.

This is NumPy on the host: it takes milliseconds, and no program has to be compiled for each reference.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

# Samples must lie between these: noise dominates near black, and cameras clip near white.
DARKEST, BRIGHTEST = 0.04, 0.96
# The fewest samples for a fit, and the most that are used.
MIN_SAMPLES, MAX_SAMPLES = 60, 20_000
ITERATIONS = 20
# Samples that deviate by TUKEY times the usual deviation or more get no weight. Deviations are relative to
# the value; the usual one is taken as LEAST_DEVIATION or more.
TUKEY, MIN_DEVIATION = 4.0, 0.01
# The median of the largest of three normal deviations, divided by their standard deviation.
MEDIAN = 1.26
# Gamma is fitted only from this tonal spread on (standard deviation of log values).
SPREAD = 0.12
# The strongest corrections that a camera explains; stronger ones mean a different picture.
STRONGEST_GAIN, STRONGEST_GAMMA = 3.0, 2.2
# A fit is rejected if its remaining relative deviation is above this.
UNEXPLAINED = 0.12
# Weaker corrections than these also come from inexact matches of true stills, and are not applied: the mean
# change of the samples' values, and the change of gamma.
MIN_CHANGE, MIN_GAMMA_CHANGE = 0.035, 0.07
# Linear light is approximately R'G'B' to this power.
DISPLAY_GAMMA = 2.2


@dataclass(frozen=True)
class Calibration:
    """The correction of a still's R'G'B' values to those of the clip: `gain * x ** gamma`.

    Attributes:
        gain: of red, green and blue.
        gamma: of all three channels.
    """

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0

    @property
    def stops(self) -> float:
        """The change of exposure, in stops of linear light, from the geometric mean of the gains."""
        return DISPLAY_GAMMA * float(np.mean(np.log2(self.gain)))

    @property
    def white(self) -> tuple[float, float, float]:
        """The change of white balance: the gains divided by their geometric mean."""
        mean = float(np.exp(np.mean(np.log(self.gain))))
        red, green, blue = (gain / mean for gain in self.gain)
        return red, green, blue

    def __call__(self, image: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Calibrated R'G'B', float32 clipped to [0, 1], of an image in [0, 1]."""
        calibrated = np.power(np.clip(image, 0.0, 1.0), np.float32(self.gamma)) * np.array(
            self.gain, np.float32
        )
        return np.clip(calibrated, 0.0, 1.0, dtype=np.float32)

    def __str__(self) -> str:
        parts = [f"exposure {self.stops:+.2f} stops", f"gamma {self.gamma:.2f}"]
        return ", ".join([*parts, "white balance " + " ".join(f"{gain:.2f}" for gain in self.white)])


def fit_calibration(
    still: Float[np.ndarray, "n 3"], clip: Float[np.ndarray, "n 3"], weight: Float[np.ndarray, " n"]
) -> Calibration | None:
    """The correction of a still's values to those of the clip; None if there is none, or it is unclear.

    Both sides are noisy: matches are off by a pixel, objects move, highlights shift. So the fit is symmetric
    (orthogonal regression of log values) and robust (Tukey's weights). Samples are weighted by their
    brightness, because errors are assumed to be equal at all tones and so smaller in the logs of bright ones.

    Args:
        still, clip: R'G'B' in [0, 1] of low-passed images, at places that show the same thing.
        weight: confidence that they do, in [0, 1].

    Returns:
        None if too few samples have usable values and confidence, if the deviation that remains is large, or
        if the correction is stronger than a camera explains, or too weak to be distinguished from errors of
        the matches.
    """
    usable = (weight > 0.0) & (np.minimum(still, clip).min(axis=1) > DARKEST)
    usable &= np.maximum(still, clip).max(axis=1) < BRIGHTEST
    chosen = np.flatnonzero(usable)
    if len(chosen) < MIN_SAMPLES:
        return None
    chosen = chosen[:: -(-len(chosen) // MAX_SAMPLES)]
    x, y = (np.log(values[chosen].astype(np.float64)) for values in (still, clip))
    usual = weight[chosen].astype(np.float64) * np.exp(0.5 * (x + y).mean(axis=1))
    fit = _robust_fit(x, y, usual, None)
    if fit is not None and abs(fit.gamma - 1.0) < MIN_GAMMA_CHANGE:
        fit = _robust_fit(x, y, usual, 1.0)
    if fit is None or fit.deviation > UNEXPLAINED or not 1.0 / STRONGEST_GAMMA < fit.gamma < STRONGEST_GAMMA:
        return None
    gain = np.exp(fit.shift)
    if max(gain.max(), 1.0 / gain.min()) > STRONGEST_GAIN:
        return None
    change = np.abs((fit.gamma - 1.0) * x + fit.shift).max(axis=1)
    if fit.share @ change / fit.share.sum() < MIN_CHANGE:
        return None
    red, green, blue = (float(value) for value in gain)
    return Calibration((red, green, blue), fit.gamma)


class _Fit(NamedTuple):
    """log y = gamma log x + shift; `deviation`: the deviation that remains; `share`: the samples' weights."""

    gamma: float
    shift: Float[np.ndarray, "3"]
    deviation: float
    share: Float[np.ndarray, " n"]


def _robust_fit(
    x: Float[np.ndarray, "n 3"],
    y: Float[np.ndarray, "n 3"],
    usual: Float[np.ndarray, " n"],
    fixed: float | None,
) -> _Fit | None:
    """A fit of log values by reweighted orthogonal regression; `fixed`: the gamma, if it is known."""
    fit = _Fit(1.0, np.zeros(3), 0.0, usual)
    for step in range(ITERATIONS):
        share = fit.share
        total = share.sum()
        if total <= 1e-3 * usual.sum():
            return None
        mean_x, mean_y = share @ x / total, share @ y / total
        gamma = _slope(x - mean_x, y - mean_y, share) if fixed is None else fixed
        shift = mean_y - gamma * mean_x
        deviation = np.abs(y - gamma * x - shift).max(axis=1)
        left = max(_median(deviation, usual) / MEDIAN, MIN_DEVIATION)
        # The reach shrinks from step to step, because the first fits are not close yet.
        reach = left * TUKEY * max(1.0, 3.0 - 0.4 * step)
        share = usual * np.square(np.maximum(1.0 - np.square(deviation / reach), 0.0))
        fit = _Fit(gamma, shift, left, share)
    return fit


def _slope(x: Float[np.ndarray, "n 3"], y: Float[np.ndarray, "n 3"], share: Float[np.ndarray, " n"]) -> float:
    """The slope of y over x, both equally noisy, with mean 0; 1 if x hardly varies."""
    xx, yy, xy = (float((share @ product).sum()) for product in (x * x, y * y, x * y))
    if xx / (3.0 * share.sum()) < SPREAD**2 or xy <= 0.0:
        return 1.0
    return (yy - xx + np.hypot(yy - xx, 2.0 * xy)) / (2.0 * xy)


def _median(values: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"]) -> float:
    order = np.argsort(values)
    places = np.cumsum(weight[order])
    return float(values[order[np.searchsorted(places, 0.5 * places[-1])]])
