"""LPIPS of two frames, with the published weights."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.errors import InputError
from ldip_jax.evaluation.compare import Distance
from ldip_jax.models.lpips import LEAST, LPIPS, Net
from ldip_jax.weights.load import load_weights

Image = Float[Array, "h w 3"] | Float[np.ndarray, "h w 3"]


@partial(jax.jit, static_argnames="net")
def lpips(params: dict[str, Any], a: Image, b: Image, net: Net = "alex") -> Float[Array, ""]:
    """LPIPS v0.1 of images quantised to 8 bits: 0 for equal ones, lower is closer.

    Args:
        params: of `LPIPS(net)`.
        a, b: RGB images in [0, 1], values outside are clipped; at least `LEAST[net]` pixels on a side.
        net: "alex", which papers usually mean, or "vgg".
    """
    a, b = (jnp.round(jnp.clip(jnp.asarray(x), 0.0, 1.0) * 255.0)[None] / 255.0 for x in (a, b))
    return cast(Array, LPIPS(net).apply({"params": params}, a, b))[0]


def try_lpips(say: Callable[[str], object]) -> Distance | None:
    """LPIPS on AlexNet, or None and one line that says why there is none."""
    try:
        return load_lpips(progress=say)
    except InputError as error:
        say(f"LPIPS is left out: {error}")
        return None


def load_lpips(net: Net = "alex", *, progress: Callable[[str], object] = print) -> Distance:
    """The distance as a function of two frames, None for frames that are too small for it.

    Raises:
        InputError: weights that are not there and cannot be fetched.
    """
    params = jax.device_put(load_weights(f"lpips-{net}", network="lpips", progress=progress).params)

    def distance(a: Float[np.ndarray, "h w 3"], b: Float[np.ndarray, "h w 3"]) -> float | None:
        return float(lpips(params, a, b, net)) if min(a.shape[:2]) >= LEAST[net] else None

    return distance
