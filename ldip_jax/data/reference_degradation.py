"""What is done to the references of a training sample: degraded as in the paper (8.1), or made useless."""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

LOWEST_BLUR, HIGHEST_BLUR = 4.0, 12.0

OpenUnrelated = Callable[[np.random.Generator], UInt8[np.ndarray, "h w 3"]]
"""Opens an image of another clip, uint8 RGB of any size."""


def degrade(image: np.ndarray, warp: np.ndarray, down: float, up: float) -> tuple[np.ndarray, np.ndarray]:
    """The image reduced by `down`, then enlarged by `up`, antialiased bicubic, and the warp in its pixels."""
    h, w = image.shape[:2]
    small = _resize(image, (max(1, round(h / down)), max(1, round(w / down))))
    final = _resize(small, (max(1, round(h / down * up)), max(1, round(w / down * up))))
    factor = np.array([final.shape[1] / w, final.shape[0] / h], np.float32)
    return final, (warp + 0.5) * factor - 0.5


def crop_lr_reference(
    lr_frame: np.ndarray, warp: np.ndarray, corner: tuple[int, int], side: int, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The part of an LR frame that lies under the window of the HR frame, and the warp in its pixels.

    Args:
        warp: places in pixels of the window.
        corner: (y, x) of the window in the HR frame.
        side: side of the window, HR pixels.
        size: (height, width) of the HR frame.
    """
    step = np.array([lr_frame.shape[0] / size[0], lr_frame.shape[1] / size[1]])
    top, left = (int(n) for n in np.array(corner) * step)
    bottom, right = (int(n) for n in np.ceil((np.array(corner) + side) * step))
    warp = (warp + np.array(corner[::-1], np.float32) + 0.5) * step[::-1] - 0.5 - (left, top)
    return lr_frame[top:bottom, left:right][:side, :side], warp.astype(np.float32)


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


DistractorMaker = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def distractor_makers(open_unrelated: OpenUnrelated) -> tuple[DistractorMaker, ...]:
    """Functions that make a reference useless. As from a matcher, content that does not match gets almost no
    confidence.
    """

    def lower(confidence: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return confidence * np.float32(rng.uniform(0.0, 0.05))

    def unrelated(image, confidence, rng):
        picture = open_unrelated(rng)
        h, w = min(image.shape[0], picture.shape[0]), min(image.shape[1], picture.shape[1])
        y, x = int(rng.integers(picture.shape[0] - h + 1)), int(rng.integers(picture.shape[1] - w + 1))
        return picture[y : y + h, x : x + w], lower(confidence, rng)

    def shifted(image, confidence, rng):
        return np.roll(image, (image.shape[0] // 2, image.shape[1] // 2), (0, 1)), lower(confidence, rng)

    def black(image, confidence, rng):
        return np.zeros_like(image), lower(confidence, rng)

    def blurred(image, confidence, rng):
        h, w = image.shape[:2]
        factor = rng.uniform(LOWEST_BLUR, HIGHEST_BLUR)
        small = _resize(image, (max(1, round(h / factor)), max(1, round(w / factor))))
        return _resize(small, (h, w)), confidence

    return unrelated, shifted, black, blurred
