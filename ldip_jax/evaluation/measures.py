"""PSNR and SSIM by the name of the convention that a published table follows."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from ldip_jax.evaluation.metrics import WINDOW, Channel, psnr, ssim


class Measure(NamedTuple):
    """How two images are scored.

    Attributes:
        channel: the luma of BT.601 ("y"), or red, green and blue together ("rgb").
        crop: pixels left out along every border, of SSIM's windows too.
        quantise: whether images are rounded to 8 bits first.
        used_by: which published numbers follow it.
    """

    channel: Channel
    crop: int
    quantise: bool
    used_by: str


MEASURES = {
    "basicsr-y": Measure("y", 0, True, "BasicSR, mmagic, IART, SAVSR: Vid4, Vimeo-90K-T, UDM10"),
    "basicsr-rgb": Measure("rgb", 0, True, "BasicSR, mmagic, IART: REDS4"),
    "rgb-crop4": Measure("rgb", 4, True, "ST-AVSR, BasicAVSR: REDS val and Vid4; MRefSR's PSNR"),
    "y-crop4": Measure("y", 4, True, "MRefSR: CUFED5"),
    "float-y": Measure("y", 0, False, "VideoINR, MoTIF, BF-STVSR: GoPro, Adobe240, Vid4"),
}


def measure(
    name: str, a: Float[np.ndarray, "h w 3"], b: Float[np.ndarray, "h w 3"]
) -> tuple[float, float | None]:
    """PSNR in dB (infinite for equal images) and SSIM by a convention of `MEASURES`.

    SSIM is None where fewer than 11 pixels are left on a side.

    Raises:
        KeyError: no such convention.
        ValueError: shapes differ, or nothing is left inside the border.
    """
    channel, crop, quantise, _ = MEASURES[name]
    scores = [psnr(a, b, channel, crop, quantise)]
    if min(a.shape[:2]) - 2 * crop >= WINDOW:
        scores.append(ssim(a, b, channel, crop, quantise))
    values = [float(score) for score in jax.device_get(scores)]
    return values[0], values[1] if len(values) > 1 else None
