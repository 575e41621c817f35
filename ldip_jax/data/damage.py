"""Damage for training, such as codecs and cameras do to people's clips and references.

It is drawn sample by sample. By default nothing is damaged, as in the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ldip_jax.data.alterations import blur, exposure, gamma, noise, white
from ldip_jax.data.codecs import PRESETS, h264, jpeg
from ldip_jax.settings import check_settings, setting

Frame = UInt8[np.ndarray, "h w 3"]
GOPS = (12, 25, 50, 250)
"""Lengths of groups of pictures, in frames; a clip is encoded with one of them and one of `PRESETS`."""


def _range(lowest: int, highest: int) -> dict[str, Any]:
    return {"minimum": lowest, "maximum": highest, "ordered": True}


@dataclass(slots=True)
class InputDamageConfig:
    """`config.data.input`: how LR clips are damaged. Shares are independent of each other.

    Raises:
        InputError: a number is out of range; the message names the field.
    """

    noise: float = setting(0.0, "share of clips with Gaussian noise", minimum=0, maximum=1)
    sigma: tuple[float, float] = setting((1.0, 6.0), "its sigma, in steps of 8 bits", **_range(0, 255))
    jpeg: float = setting(0.0, "share of clips whose frames go through JPEG", minimum=0, maximum=1)
    quality: tuple[float, float] = setting((30.0, 95.0), "its quality", **_range(1, 100))
    h264: float = setting(0.0, "share of clips that go through H.264", minimum=0, maximum=1)
    crf: tuple[float, float] = setting((15.0, 35.0), "its rate factor", **_range(0, 51))

    def __post_init__(self) -> None:
        check_settings(self, "data.input.")

    @property
    def active(self) -> bool:
        """Whether any clip is damaged."""
        return max(self.noise, self.jpeg, self.h264) > 0

    def draw_damage(self, rng: np.random.Generator) -> "Damage":
        """Draw the damage of one clip; always takes equally many numbers from `rng`."""
        kinds = rng.random(3) < (self.noise, self.jpeg, self.h264)
        sigma, quality, crf = (rng.uniform(*r) for r in (self.sigma, self.quality, self.crf))
        gop, preset = GOPS[rng.integers(len(GOPS))], PRESETS[rng.integers(len(PRESETS))]
        return Damage(
            sigma=float(sigma) if kinds[0] else None,
            quality=round(quality) if kinds[1] else None,
            crf=round(float(crf), 1) if kinds[2] else None,
            gop=gop,
            preset=preset,
            seed=int(rng.integers(2**63)),
        )


@dataclass(frozen=True)
class Damage:
    """The damage of one LR clip: noise, then JPEG, then H.264; a step whose value is None is left out."""

    sigma: float | None
    quality: int | None
    crf: float | None
    gop: int
    preset: str
    seed: int

    def __str__(self) -> str:
        """ "" if nothing is damaged."""
        parts = []
        if self.sigma is not None:
            parts.append(f"noise {self.sigma:.1f}")
        if self.quality is not None:
            parts.append(f"jpeg {self.quality}")
        if self.crf is not None:
            parts.append(f"h264 crf {self.crf:g} gop {self.gop} {self.preset}")
        return ", ".join(parts)

    def __call__(self, frames: Sequence[Frame]) -> list[Frame]:
        """Damage a whole clip, given in order; the same clip gives the same result."""
        if self.sigma is not None:
            rng = np.random.default_rng(self.seed)
            frames = [noise(frame, self.sigma, rng) for frame in frames]
        if self.quality is not None:
            frames = [jpeg(frame, self.quality) for frame in frames]
        if self.crf is not None:
            frames = list(h264(frames, self.crf, preset=self.preset, gop=self.gop))
        return list(frames)


@dataclass(slots=True)
class ReferenceJitterConfig:
    """`config.data.reference_jitter`: how references are altered.

    Each altered reference gets blur, a change of tone, noise and JPEG with a probability of 0.5 each.
    References at LR size, which are the clip's own frames, are never altered.

    Raises:
        InputError: a number is out of range; the message names the field.
    """

    share: float = setting(0.0, "share of references that are altered", minimum=0, maximum=1)
    blur: float = setting(2.0, "the largest sigma of blur, in pixels", minimum=0)
    exposure: float = setting(0.1, "range of the factor for all values: 0.1 is from 1/1.1 to 1.1", minimum=0)
    gamma: float = setting(0.1, "range of the exponent, given in the same way", minimum=0)
    white: float = setting(0.05, "range of the gain of each channel, given in the same way", minimum=0)
    noise: float = setting(8.0, "the largest sigma of noise, in steps of 8 bits", minimum=0)
    quality: tuple[float, float] = setting((50.0, 95.0), "quality of JPEG", **_range(1, 100))

    def __post_init__(self) -> None:
        check_settings(self, "data.reference_jitter.")

    def __call__(self, image: Frame, rng: np.random.Generator) -> Frame:
        """A reference, altered or unchanged."""
        if rng.random() >= self.share:
            return image
        blurred, toned, grainy, coded = rng.random(4) < 0.5
        if blurred:
            image = blur(image, rng.uniform(0.0, self.blur))
        if toned:
            image = exposure(image, _factor(rng, self.exposure))
            image = gamma(image, _factor(rng, self.gamma))
            red, green, blue = (_factor(rng, self.white) for _ in range(3))
            image = white(image, (red, green, blue))
        if grainy:
            image = noise(image, rng.uniform(0.0, self.noise), rng)
        if coded:
            image = jpeg(image, round(rng.uniform(*self.quality)))
        return image


def _factor(rng: np.random.Generator, reach: float) -> float:
    """Draw a factor from 1 / (1 + reach) to 1 + reach, uniform in its logarithm."""
    return float(np.exp(rng.uniform(-1.0, 1.0) * np.log1p(reach)))
