"""Clips whose pixels hold their own coordinates."""

import numpy as np


class Coordinates:
    """Frames whose red is x, green y and blue the frame's number; records which ones are decoded."""

    def __init__(self, size=(24, 36), count=30, name="ramp"):
        self.size, self.count, self.name = size, count, name
        self.decoded = []

    def frame(self, number):
        self.decoded.append(number)
        y, x = np.mgrid[: self.size[0], : self.size[1]]
        return np.stack([x, y, np.full_like(x, number)], axis=-1).astype(np.uint8)


def sample_bilinear(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values of `h w c` at places (x, y), clamped to the borders; float64."""
    h, w = image.shape[:2]
    x, y = np.moveaxis(np.clip(places, 0, (w - 1, h - 1)), -1, 0)
    x0, y0 = np.minimum(x.astype(int), w - 2), np.minimum(y.astype(int), h - 2)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    image = image.astype(np.float64)
    top = image[y0, x0] * (1 - fx) + image[y0, x0 + 1] * fx
    bottom = image[y0 + 1, x0] * (1 - fx) + image[y0 + 1, x0 + 1] * fx
    return top * (1 - fy) + bottom * fy


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR, limited to 60 dB, because 8-bit values are not precise enough for more."""
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(np.float64) - b) ** 2), 0.065)))
