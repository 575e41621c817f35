"""Finds a key-frame's view in a still that shows much more of the scene, or only a part of it.

A matching network gets both images at one size, and finds no match if one shows things twice as large. So
small copies of the two are compared first, at every zoom and place, by normalised cross-correlation.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from ldip_jax.matching.dense import resize_image
from ldip_jax.ops.box import box_sums
from ldip_jax.ops.warp import inside

# The longer side of the frame's small copy, and the side of the square whose mean is subtracted for detail.
LONGER_SIDE = 96
MEAN = 13
# Zooms are tried in steps of 2^(1/8), for views of the still from NARROWEST to WIDEST times as wide as the
# frame's; narrower ones have too few pixels.
STEPS_PER_OCTAVE = 8
WIDEST, NARROWEST = 4.8, 1 / 3.4
# A still is enlarged at most by this; otherwise, one with few rows would fill the memory.
LARGEST = 4.0
# Unrelated pictures have a correlation of 0.3 to 0.55, pictures of the same scene 0.7 or more.
MIN_CORRELATION = 0.6
# Margin on each side of the view found, relative to its size, because the zoom is known only to half a step.
MARGIN = 0.12
# A reframed still has at most this many times the frame's rows, margin included: denser stills gain nothing.
DENSEST = 2.0

Gray = Float[np.ndarray, "_ _"]


class View(NamedTuple):
    """The part of a still that a frame shows, in pixels of the still; it may extend beyond the still.

    Attributes:
        top, left, height, width: whole pixels.
        score: the correlation, at most 1.
    """

    top: int
    left: int
    height: int
    width: int
    score: float


def find_view(frame: Float[np.ndarray, "H W 3"], still: Float[np.ndarray, "h w 3"]) -> View | None:
    """The part of a still that a frame shows, with a margin around it; None if it is not found.

    Args:
        frame, still: RGB in [0, 1], of any sizes.
    """
    H, W = frame.shape[:2]
    h, w = still.shape[:2]
    small = LONGER_SIDE / max(H, W)
    size = max(1, round(H * small)), max(1, round(W * small))
    small_frame = _subtract_local_mean(_to_gray(frame), size)
    gray = _to_gray(still)
    best: tuple[float, float, float, float] | None = None
    for shrink in _zooms(size, (h, w)):
        small_still = _subtract_local_mean(gray, (round(h * shrink), round(w * shrink)))
        wider = small_still.shape[0] >= size[0] and small_still.shape[1] >= size[1]
        smaller = small_still.shape[0] <= size[0] and small_still.shape[1] <= size[1]
        if not wider and not smaller:
            continue
        field, template = (small_still, small_frame) if wider else (small_frame, small_still)
        scores = correlation(field, template)
        y, x = np.unravel_index(scores.argmax(), scores.shape)
        score = float(scores[y, x])
        if best is None or score > best[0]:
            sign = 1.0 if wider else -1.0
            best = score, sign * y / shrink, sign * x / shrink, shrink
    if best is None or best[0] < MIN_CORRELATION:
        return None
    score, top, left, shrink = best
    height, width = size[0] / shrink, size[1] / shrink
    top, left = top - MARGIN * height, left - MARGIN * width
    more = 1.0 + 2.0 * MARGIN
    return View(round(top), round(left), round(more * height), round(more * width), score)


class Reframed(NamedTuple):
    """A still cropped to a view.

    Attributes:
        image: as large as the view, or reduced if that has more than `DENSEST` times the frame's rows; grey
            where the view extends beyond the still.
        still_box: (top, left, bottom, right) of the still in this image.
    """

    image: Float[np.ndarray, "h w 3"]
    still_box: tuple[int, int, int, int]

    def holds(self, warp: Float[Array, "b H W 2"]) -> Float[Array, "b H W 1"]:
        """1 where places (x, y) in the image, rounded, show the still; 0 elsewhere."""
        top, left, bottom, right = self.still_box
        corner, size = (
            jnp.array([left, top], jnp.float32),
            jnp.array([right - left, bottom - top], jnp.float32),
        )
        return inside(warp - corner[None, None, None], size)


def reframe(still: Float[np.ndarray, "h w 3"], view: View, frame: tuple[int, int]) -> Reframed:
    """The still cropped to a view.

    Args:
        frame: (height, width) of the frame that shows the view.
    """
    shrink = min(1.0, DENSEST * frame[0] / view.height)
    ends = view.top + view.height, view.left + view.width
    top, left = max(0, view.top), max(0, view.left)
    part = still[top : min(ends[0], still.shape[0]), left : min(ends[1], still.shape[1])]
    height, width = (max(1, round(n * shrink)) for n in (view.height, view.width))
    rows, columns = (max(1, round(n * shrink)) for n in part.shape[:2])
    if shrink < 1.0:
        part = np.asarray(resize_image(jnp.asarray(part)[None], (rows, columns)))[0]
    y, x = round((top - view.top) * shrink), round((left - view.left) * shrink)
    image = np.full((height, width, 3), 0.5, np.float32)
    target = image[y : y + rows, x : x + columns]
    target[...] = part[: target.shape[0], : target.shape[1]]
    return Reframed(image, (y, x, y + target.shape[0], x + target.shape[1]))


def correlation(field: Gray, template: Gray) -> Gray:
    """Normalised cross-correlation of a template with a field, at every place where all of it is inside."""
    (h, w), shape = template.shape, field.shape
    template = template - template.mean()
    spectrum = np.fft.rfft2(field) * np.conj(np.fft.rfft2(template, shape))
    product = np.fft.irfft2(spectrum, shape)[: shape[0] - h + 1, : shape[1] - w + 1]
    mean = box_sums(field, (h, w)) / (h * w)
    variance = np.maximum(box_sums(field**2, (h, w)) - h * w * mean**2, 1e-6)
    return product / np.sqrt(variance * max(float((template**2).sum()), 1e-6))


def _zooms(frame: tuple[int, int], still: tuple[int, int]) -> Iterator[float]:
    """Factors by which to resize the still, for views from `NARROWEST` to `WIDEST`."""
    level = max(frame[0] / still[0], frame[1] / still[1])
    steps = [round(STEPS_PER_OCTAVE * np.log2(limit)) for limit in (NARROWEST, WIDEST)]
    factors = (level * 2.0 ** (step / STEPS_PER_OCTAVE) for step in range(steps[0], steps[1] + 1))
    return (factor for factor in factors if factor <= LARGEST)


def _to_gray(image: Float[np.ndarray, "h w 3"]) -> Image.Image:
    """A grey copy, no larger than the zooms need."""
    gray = Image.fromarray(np.ascontiguousarray(image.mean(axis=-1, dtype=np.float32), np.float32))
    factor = max(1, int(min(gray.size) / (2 * LONGER_SIDE * WIDEST)))
    return gray.reduce(factor)


def _subtract_local_mean(gray: Image.Image, size: tuple[int, int]) -> Gray:
    """Resized, minus its local mean; in float64, because box sums are differences of large numbers."""
    small = gray.resize((max(1, size[1]), max(1, size[0])), Image.Resampling.BILINEAR)
    values = np.pad(np.asarray(small, np.float64), MEAN // 2, "reflect" if min(small.size) > MEAN else "edge")
    mean = box_sums(values, (MEAN, MEAN)) / MEAN**2
    inner = slice(MEAN // 2, -(MEAN // 2))
    return values[inner, inner] - mean
