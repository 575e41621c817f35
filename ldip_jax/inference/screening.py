"""Examines a still that matches: calibrates it, and rejects it if it has no detail to give."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.matching import CONFIDENT
from ldip_jax.matching.calibration import Calibration, fit_calibration
from ldip_jax.matching.evidence import measure_evidence, warp_reference
from ldip_jax.matching.matcher import Match, Pair, confident_share
from ldip_jax.matching.refine import measure_damage
from ldip_jax.models.carry import BANDWIDTH
from ldip_jax.ops.blur import gaussian_blur

# A coarse match is off by a pixel or two, so colours are compared after a low-pass of COARSE times BANDWIDTH.
COARSE = 2.0
# With less likeness, a match is not genuine; with less sharpness, a still has no detail to give. True stills
# have a likeness of at least 0.85, or 0.73 at CRF 30, and a sharpness of at least 1.3; blurred by 2 pixels at
# x4, a sharpness of 0.15. Mirrored ones reach a likeness of 0.6 on surfaces such as asphalt, and of 0.86 in a
# small part of the frame; so matches of less than the share SMALL must be more alike.
MIN_LIKENESS, MIN_SHARPNESS = 0.65, 0.7
# If frames were softened, the backbone's image of the key-frame is still sharper than its subject: then true
# stills have a sharpness of 0.55 to 1.1, and those blurred by one pixel 0.21 to 0.28.
MIN_SHARPNESS_OF_SOFTENED = 0.4
SMALL, MIN_LIKENESS_OF_SMALL = 0.15, 0.9
UNLIKE = "nothing in common where it seems to match"
BLURRED = "no sharper than the upscaled frame"


def calibrate(pair: Pair, match: Match, scale: tuple[float, float]) -> tuple[Pair, Calibration | None]:
    """The pair, with its reference calibrated to the key-frame: exposure, gamma and white balance.

    Args:
        match: the coarse match of this pair.
        scale: (H, W) divided by the size of the input video's frames.

    Returns:
        The calibrated pair and its calibration. The pair as it is and None if there is nothing to correct, or
        if the correction cannot be determined.
    """
    sigma = (COARSE * BANDWIDTH * scale[0], COARSE * BANDWIDTH * scale[1])
    steps = [max(1, round(factor)) for factor in scale]

    def samples(image: Array) -> Float[np.ndarray, "n c"]:
        small = image[0, steps[0] // 2 :: steps[0], steps[1] // 2 :: steps[1]]
        return np.asarray(small).reshape(-1, small.shape[-1])

    # One after the other, because the images are large.
    clip = samples(gaussian_blur(jnp.asarray(pair.anchor, jnp.float32), sigma))
    still = samples(gaussian_blur(warp_reference(jnp.asarray(pair.reference), match.warp), sigma))
    confidence = samples(match.confidence)[:, 0]
    found = fit_calibration(still, clip, confidence * (confidence > CONFIDENT))
    if found is None:
        return pair, None
    return replace(pair, reference=found(np.asarray(pair.reference))), found


def rejection_reason(pair: Pair, match: Match, scale: tuple[float, float], softened: bool = False) -> str:
    """Why a matched reference is not used; "" if it is used.

    Args:
        match: the refined match of this pair.
        scale: (H, W) divided by the size of the input video's frames.
        softened: whether frames were softened; see `softening`.
    """
    shown = warp_reference(jnp.asarray(pair.reference), match.warp)
    evidence = measure_evidence(pair.anchor, shown, match, scale)
    small = confident_share(match.confidence) < SMALL
    if evidence.likeness < (MIN_LIKENESS_OF_SMALL if small else MIN_LIKENESS):
        return UNLIKE
    least = MIN_SHARPNESS_OF_SOFTENED if softened else MIN_SHARPNESS
    return BLURRED if evidence.sharpness < least else ""


def find_damage(pair: Pair, match: Match, scale: tuple[float, float]) -> float:
    """How damaged the key-frame is beside a reference that is used, in [0, 1].

    Args:
        match, scale: as in `rejection_reason`.
    """
    anchor, shown = jnp.asarray(pair.anchor), warp_reference(jnp.asarray(pair.reference), match.warp)
    return float(measure_damage(anchor, shown, match.confidence, scale)[0, 0, 0, 0])
