"""The scores: PSNR and SSIM as in published tables, LPIPS, and tOF, which measures motion."""

import math
import operator
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.errors import InputError
from ldip_jax.evaluation.scores import Distance
from ldip_jax.models.networks.lpips import LPIPS, MIN_SIDE, Net
from ldip_jax.models.networks.spynet import SPyNet
from ldip_jax.weights.load import load_weights

Channel = Literal["y", "rgb"]
Image = Float[Array, "h w 3"] | Float[np.ndarray, "h w 3"]

WINDOW = 11
"""Side of SSIM's window in pixels: images smaller than this have no SSIM."""

_SIGMA = 1.5
_C1 = (0.01 * 255.0) ** 2
_C2 = (0.03 * 255.0) ** 2
_LUMA = (65.481, 128.553, 24.966)


def _levels(image: Image, crop: int, quantise: bool) -> Array:
    """Values 0 to 255 inside the border."""
    h, w = image.shape[:2]
    inside = jnp.asarray(image)[crop : h - crop, crop : w - crop]
    levels = jnp.clip(inside, 0.0, 1.0) * 255.0
    return jnp.round(levels) if quantise else levels


def _weighted_sum(weights: Sequence[float], terms: Sequence[Array]) -> Array:
    """Add term by term, not as a matrix product, which accelerators round to fewer bits."""
    return reduce(operator.add, (weight * term for weight, term in zip(weights, terms, strict=True)))


def _to_channel(levels: Array, channel: Channel) -> Array:
    """`h w 3` levels to the scored `h w c`, c = 1 or 3: luma without its offset of 16, so that it is linear.

    A sum or difference of images is computed on the levels, where it is exact, and weighted afterwards.
    """
    if channel == "rgb":
        return levels
    return _weighted_sum(_LUMA, [levels[..., i : i + 1] / 255.0 for i in range(3)])


def _window_moments(mean: Array, variance: Array | None, axis: int) -> tuple[Array, Array]:
    """Weighted mean and variance along one axis of values that are themselves means with variances.

    The variance is a mean of squared deviations, never a difference of large squares: float32 suffices.
    """
    offset = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offset**2) / (2.0 * _SIGMA**2))
    weights = (weights / weights.sum()).tolist()
    n = mean.shape[axis] - WINDOW + 1

    def taps(x: Array) -> list[Array]:
        return [jax.lax.slice_in_dim(x, k, k + n, axis=axis) for k in range(WINDOW)]

    centre = _weighted_sum(weights, taps(mean))
    spread = _weighted_sum(weights, [jnp.square(m - centre) for m in taps(mean)])
    if variance is not None:
        spread = spread + _weighted_sum(weights, taps(variance))
    return centre, spread


def _mean_ssim(total: Array, difference: Array) -> Array:
    """SSIM from the sum s and the difference d of two images, `h w c`, equal to the usual formula, since

    2 mu_a mu_b = (mu_s^2 - mu_d^2) / 2, mu_a^2 + mu_b^2 = (mu_s^2 + mu_d^2) / 2, (co)variances likewise.
    """
    maps = jnp.moveaxis(jnp.concatenate([total, difference], axis=2), 2, 0)
    # A loop over maps for each axis: otherwise XLA would fuse both axes and compute 11 x 11 taps per pixel.
    rows = jax.lax.map(lambda x: _window_moments(x, None, axis=0), maps)
    mean, variance = jax.lax.map(lambda moments: _window_moments(*moments, axis=1), rows)
    mean_s, mean_d = jnp.split(jnp.square(mean), 2)
    var_s, var_d = jnp.split(variance, 2)
    # One minus each of these two factors of SSIM, so that equal images score exactly 1.
    luminance = 2.0 * mean_d / (mean_s + mean_d + 2.0 * _C1)
    structure = 2.0 * var_d / (var_s + var_d + 2.0 * _C2)
    return 1.0 - jnp.mean(luminance + structure - luminance * structure)


def _check(a: Image, b: Image, crop: int, min_side: int) -> None:
    if a.shape != b.shape:
        raise ValueError(f"images of different shapes cannot be compared: {a.shape} and {b.shape}")
    if crop < 0 or min(a.shape[:2]) - 2 * crop < min_side:
        raise ValueError(
            f"a {a.shape[0]}x{a.shape[1]} image less a border of {crop} is under {min_side} pixels"
        )


@partial(jax.jit, static_argnames=("channel", "crop", "quantise"))
def psnr(
    a: Image, b: Image, channel: Channel = "y", crop: int = 0, quantise: bool = True
) -> Float[Array, ""]:
    """Peak signal-to-noise ratio in dB; infinite if the images are equal.

    Args:
        a, b: RGB images; values outside [0, 1] are clipped.
        channel: "y" or "rgb", see `Convention`.
        crop: pixels left out along every border (0 in the x4 benchmarks).
        quantise: whether images are rounded to 8 bits first (as in nearly all benchmarks).

    Raises:
        ValueError: shapes differ, or nothing is left inside the border.
    """
    _check(a, b, crop, min_side=1)
    error = _to_channel(_levels(a, crop, quantise) - _levels(b, crop, quantise), channel)
    return 20.0 * math.log10(255.0) - 10.0 * jnp.log10(jnp.mean(jnp.square(error)))


@partial(jax.jit, static_argnames=("channel", "crop", "quantise"))
def ssim(
    a: Image, b: Image, channel: Channel = "y", crop: int = 0, quantise: bool = True
) -> Float[Array, ""]:
    """Structural similarity, at most 1; arguments as for `psnr`.

    Raises:
        ValueError: shapes differ, or fewer than 11 pixels are left on a side.
    """
    _check(a, b, crop, min_side=WINDOW)
    a, b = _levels(a, crop, quantise), _levels(b, crop, quantise)
    offset = 32.0 if channel == "y" else 0.0
    return _mean_ssim(_to_channel(a + b, channel) + offset, _to_channel(a - b, channel))


@jax.jit
def _scores(a: Image, b: Image) -> dict[str, Array]:
    scores = {}
    for channel in ("y", "rgb"):
        scores[f"psnr_{channel}"] = psnr(a, b, channel)
        if min(a.shape[:2]) >= WINDOW:
            scores[f"ssim_{channel}"] = ssim(a, b, channel)
    return scores


def frame_metrics(a: Image, b: Image) -> dict[str, float | None]:
    """`psnr_y`, `ssim_y`, `psnr_rgb`, `ssim_rgb` of one pair of frames, as Python numbers.

    SSIM is None for frames with a side under 11 pixels.

    Raises:
        ValueError: shapes differ.
    """
    scores = jax.device_get(_scores(a, b))
    keys = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb")
    return {key: float(scores[key]) if key in scores else None for key in keys}


class Convention(NamedTuple):
    """How two images are scored.

    Attributes:
        channel: the luma of BT.601 ("y"), or red, green and blue together ("rgb").
        crop: pixels left out along every border, for SSIM's windows too.
        quantise: whether images are rounded to 8 bits first.
        used_by: which published numbers follow it.
    """

    channel: Channel
    crop: int
    quantise: bool
    used_by: str


CONVENTIONS = {
    "basicsr-y": Convention("y", 0, True, "BasicSR, mmagic, IART, SAVSR: Vid4, Vimeo-90K-T, UDM10"),
    "basicsr-rgb": Convention("rgb", 0, True, "BasicSR, mmagic, IART: REDS4"),
    "rgb-crop4": Convention("rgb", 4, True, "ST-AVSR, BasicAVSR: REDS val and Vid4; MRefSR's PSNR"),
    "y-crop4": Convention("y", 4, True, "MRefSR: CUFED5"),
    "float-y": Convention("y", 0, False, "VideoINR, MoTIF, BF-STVSR: GoPro, Adobe240, Vid4"),
}


def psnr_and_ssim(
    name: str, a: Float[np.ndarray, "h w 3"], b: Float[np.ndarray, "h w 3"]
) -> tuple[float, float | None]:
    """PSNR in dB (infinite for equal images) and SSIM by a convention of `CONVENTIONS`.

    SSIM is None if fewer than 11 pixels are left on a side.

    Raises:
        KeyError: no such convention.
        ValueError: shapes differ, or nothing is left inside the border.
    """
    channel, crop, quantise, _ = CONVENTIONS[name]
    scores = [psnr(a, b, channel, crop, quantise)]
    if min(a.shape[:2]) - 2 * crop >= WINDOW:
        scores.append(ssim(a, b, channel, crop, quantise))
    values = [float(score) for score in jax.device_get(scores)]
    return values[0], values[1] if len(values) > 1 else None


@partial(jax.jit, static_argnames="net")
def lpips(params: dict[str, Any], a: Image, b: Image, net: Net = "alex") -> Float[Array, ""]:
    """LPIPS v0.1 of images quantised to 8 bits: 0 for equal images, lower is closer.

    Args:
        params: parameters of `LPIPS(net)`.
        a, b: RGB images in [0, 1], at least `LEAST[net]` pixels on a side; values outside are clipped.
        net: "alex", which papers usually mean, or "vgg".
    """
    a, b = (jnp.round(jnp.clip(jnp.asarray(x), 0.0, 1.0) * 255.0)[None] / 255.0 for x in (a, b))
    return cast(Array, LPIPS(net).apply({"params": params}, a, b))[0]


def try_lpips(notify: Callable[[str], object]) -> Distance | None:
    """LPIPS on AlexNet; if its weights are not available, None, and one line that says why."""
    try:
        return load_lpips(progress=notify)
    except InputError as error:
        notify(f"LPIPS is left out: {error}")
        return None


def load_lpips(net: Net = "alex", *, progress: Callable[[str], object] = print) -> Distance:
    """LPIPS as a function of two frames, which returns None for frames that are too small.

    Raises:
        InputError: the weights are missing and cannot be fetched.
    """
    params = jax.device_put(load_weights(f"lpips-{net}", network="lpips", progress=progress).params)

    def distance(a: Float[np.ndarray, "h w 3"], b: Float[np.ndarray, "h w 3"]) -> float | None:
        return float(lpips(params, a, b, net)) if min(a.shape[:2]) >= MIN_SIDE[net] else None

    return distance


Frame = Float[np.ndarray, "h w 3"]


@jax.jit
def tof(
    params: dict[str, Any],
    truth: Float[Array, "2 h w 3"],
    result: Float[Array, "2 h w 3"],
) -> Float[Array, ""]:
    """Mean distance, in pixels, of the flow between two frames of the result from that of the truth.

    Lower is better; 0 if the result equals the truth. Published tables use another flow network: compare only
    values of this function.

    Args:
        params: parameters of SPyNet.
        truth, result: two consecutive frames, RGB in [0, 1].
    """
    frames = jnp.stack([truth, result], axis=1)
    flow = cast(Array, SPyNet().apply({"params": params}, frames[0], frames[1]))
    return jnp.mean(jnp.sqrt(jnp.sum(jnp.square(flow[0] - flow[1]), axis=-1)))


class TemporalScore:
    """tOF of a clip whose frames are given one after the other."""

    def __init__(self, spynet: dict[str, Any]):
        self._params = jax.device_put(spynet)
        self._last: tuple[int, Frame, Frame] | None = None

    def __call__(self, place: int, truth: Frame, result: Frame) -> float | None:
        """The score of the previous frame and this one; None if that was not given just before."""
        last, self._last = self._last, (place, truth, result)
        if last is None or last[0] != place - 1:
            return None
        return float(tof(self._params, np.stack([last[1], truth]), np.stack([last[2], result])))
