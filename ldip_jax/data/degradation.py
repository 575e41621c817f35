"""From ground truth to the LR frames of a benchmark: one function for each degradation of published tables.

All take and return 8-bit frames. "bi" and "bd" give MATLAB's results, bit for bit; the other two give
PyTorch's, rounded to 8 bits, as a file would hold them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from ldip_jax.errors import InputError
from ldip_jax.ops.imresize import imresize
from ldip_jax.ops.resize import resize_bicubic

# Input and output differ in size, so the axes have no names.
Frame = UInt8[np.ndarray, "_ _ 3"]
Size = tuple[int, int]

SIGMA, TAPS = 1.6, 12
"""BD's Gaussian: ceil(3 sigma) * 2 + 2 taps, an even number."""


def bi(frame: Frame, size: Size) -> Frame:
    """ "BI": MATLAB's `imresize` to (height, width), bicubic, antialiased, mirrored borders."""
    return imresize(frame, size=size)


def bd(frame: Frame, size: Size) -> Frame:
    """ "BD": Gaussian blur of sigma 1.6 by MATLAB's `imfilter`, then every fourth pixel.

    The kernel has 12 x 12 taps, from 5 before to 6 after the pixel. Borders are replicated, and the blurred
    image is rounded. Rows and columns 1, 5, 9 ... are kept, so that an LR pixel lies in the middle of its
    4 x 4 HR pixels.

    Raises:
        InputError: `size` is not a quarter of the frame's.
    """
    h, w = frame.shape[:2]
    if (h, w) != (4 * size[0], 4 * size[1]):
        raise InputError(f"BD is defined only for x4, {w}x{h} to {size[1]}x{size[0]} is not; use BI")
    taps = np.exp(-((np.arange(TAPS) - (TAPS - 1) / 2) ** 2) / (2.0 * SIGMA**2))
    taps /= taps.sum()
    before = (TAPS - 1) // 2
    blurred = frame.astype(np.float64)
    for axis, n in enumerate(size):
        places = 1 + 4 * np.arange(n)[:, None] + np.arange(-before, TAPS - before)
        places = np.clip(places, 0, frame.shape[axis] - 1)
        blurred = np.moveaxis(np.tensordot(blurred.take(places, axis), taps, ((axis + 1,), (0,))), axis, axis)
    return np.clip(np.floor(blurred + 0.5), 0, 255).astype(np.uint8)


def _resize(frame: Frame, size: Size, resize: Callable[[Array], Array]) -> Frame:
    pixels = resize(jnp.asarray(frame.astype(np.float32)))
    return np.asarray(jnp.clip(jnp.round(pixels), 0.0, 255.0)).astype(np.uint8)


def bicubic(frame: Frame, size: Size) -> Frame:
    """PyTorch's `interpolate(mode="bicubic")` (a = -0.75), which does not antialias: ST-AVSR's LR frames."""

    def resize(x: Float[Array, "_ _ 3"]) -> Float[Array, "_ _ 3"]:
        return jax.image.resize(x, (*size, 3), "cubic-pytorch", antialias=False)

    return _resize(frame, size, resize)


def antialiased(frame: Frame, size: Size) -> Frame:
    """torchvision's `Resize(BICUBIC, antialias=True)` (a = -0.5, borders renormalised): SAVSR's LR frames."""
    return _resize(frame, size, lambda x: resize_bicubic(x, size))


DEGRADATIONS: dict[str, Callable[[Frame, Size], Frame]] = {
    "bi": bi,
    "bd": bd,
    "bicubic": bicubic,
    "antialiased": antialiased,
}


def crop_to_multiple(frame: Frame, multiple: int) -> Frame:
    """The frame without the rows and columns at its lower and right edges that do not fill a whole LR pixel.

    Raises:
        InputError: nothing is left.
    """
    h, w = (side - side % multiple for side in frame.shape[:2])
    if h == 0 or w == 0:
        raise InputError(f"a frame of {frame.shape[1]}x{frame.shape[0]} is too small for x{multiple}")
    return frame[:h, :w]
