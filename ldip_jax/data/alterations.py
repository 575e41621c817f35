"""Alterations of 8-bit images, such as cameras and files cause: one function each, and how users write them.

Values are R'G'B' as stored in a file; nothing here converts them to linear light.
"""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFilter

from ldip_jax.data.codecs import jpeg
from ldip_jax.errors import InputError

Frame = UInt8[np.ndarray, "h w 3"]

FORMS = (
    "exposure:FACTOR, gamma:POWER, white:R,G,B, blur:SIGMA, noise:SIGMA, jpeg:QUALITY, mirror, plain:black,"
    " plain:white or plain:grey"
)
_COLOURS = {"black": 0, "grey": 128, "white": 255}
# How many numbers each kind takes, the lowest and the highest.
_NUMBERS = {
    "exposure": (1, 0.01, 100.0),
    "gamma": (1, 0.01, 100.0),
    "white": (3, 0.01, 100.0),
    "blur": (1, 0.1, 100.0),
    "noise": (1, 0.1, 255.0),
    "jpeg": (1, 1.0, 100.0),
}


def _rounded(values: Float[np.ndarray, "h w 3"]) -> Frame:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def exposure(image: Frame, factor: float) -> Frame:
    """Multiply all values by `factor`, then clip."""
    return white(image, (factor, factor, factor))


def gamma(image: Frame, power: float) -> Frame:
    """Values in [0, 1] to the power of `power`: above 1 is darker."""
    return _rounded(255.0 * (image.astype(np.float32) / 255.0) ** power)


def white(image: Frame, gains: tuple[float, float, float]) -> Frame:
    """Multiply red, green and blue by one gain each, then clip: a change of white balance."""
    return _rounded(image.astype(np.float32) * np.array(gains, np.float32))


def blur(image: Frame, sigma: float) -> Frame:
    """Gaussian blur; `sigma` in pixels."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def noise(image: Frame, sigma: float, rng: np.random.Generator) -> Frame:
    """Gaussian noise, independent for each value; `sigma` in steps of 8 bits."""
    grain = rng.standard_normal(image.shape, np.float32)
    return _rounded(image.astype(np.float32) + np.float32(sigma) * grain)


@dataclass(frozen=True)
class Alteration:
    """One of the alterations above with its numbers, as the user writes it; see `FORMS`.

    Attributes:
        kind: "exposure", "gamma", "white", "blur", "noise", "jpeg", "mirror" or "plain".
        values: its numbers; for "plain", the value of all pixels.

    Example:
        >>> parse_alteration("white:1.10,1,0.85").text
        'white:1.1,1,0.85'
    """

    kind: str
    values: tuple[float, ...] = ()

    @property
    def text(self) -> str:
        """The shortest text that `parse_alteration` reads as this alteration."""
        if self.kind == "plain":
            return f"plain:{next(name for name, value in _COLOURS.items() if value == self.values[0])}"
        return ":".join(filter(None, [self.kind, ",".join(f"{value:g}" for value in self.values)]))

    def __call__(self, image: Frame, rng: np.random.Generator) -> Frame:
        """The altered image; `rng` is used only for noise."""
        match self.kind, self.values:
            case "exposure", (factor,):
                return exposure(image, factor)
            case "gamma", (power,):
                return gamma(image, power)
            case "white", (red, green, blue):
                return white(image, (red, green, blue))
            case "blur", (sigma,):
                return blur(image, sigma)
            case "noise", (sigma,):
                return noise(image, sigma, rng)
            case "jpeg", (quality,):
                return jpeg(image, round(quality))
            case "mirror", ():
                return np.ascontiguousarray(image[:, ::-1])
            case "plain", (value,):
                return np.full_like(image, round(value))
        raise ValueError(f"{self.kind}: no such alteration")


def parse_alteration(text: str) -> Alteration:
    """Read an alteration as the user writes it; see `FORMS`.

    Raises:
        InputError: an unknown alteration, or numbers that it does not accept.
    """
    kind, _, rest = text.partition(":")
    if text == "mirror":
        return Alteration(kind)
    if kind == "plain" and rest in _COLOURS:
        return Alteration(kind, (float(_COLOURS[rest]),))
    if kind not in _NUMBERS:
        raise InputError(f"{text!r}: no such alteration; choose {FORMS}")
    count, lowest, highest = _NUMBERS[kind]
    with suppress(ValueError):
        values = tuple(float(part) for part in rest.split(","))
        whole = kind != "jpeg" or values[0].is_integer()
        if len(values) == count and whole and all(lowest <= value <= highest for value in values):
            return Alteration(kind, values)
    numbers = "a whole number" if kind == "jpeg" else "a number" if count == 1 else f"{count} numbers"
    raise InputError(f"{text!r}: {kind} takes {numbers} from {lowest:g} to {highest:g}")
