"""Matching by a network that gives the flow between two images of one size, both ways."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.matching.confidence import forward_backward_confidence, inside
from ldip_jax.matching.coordinates import flow_to_warp
from ldip_jax.matching.matcher import Match, Pair
from ldip_jax.matching.refine import Refiner
from ldip_jax.ops.resize import resize_bicubic, resize_bilinear

Params = dict[str, Any]
# (params, a, b) -> (flow a -> b, flow b -> a), `b h w 3` images and `b h w 2` flows of one size.
BidirectionalFlow = Callable[[Params, Array, Array], tuple[Array, Array]]


@partial(jax.jit, static_argnums=1)
def resize_image(image: Float[Array, "b h w 3"], size: tuple[int, int]) -> Float[Array, "b H W 3"]:
    """Antialiased bicubic, clipped to [0, 1]."""
    with jax.default_matmul_precision("highest"):
        return jnp.clip(resize_bicubic(image.astype(jnp.float32), size), 0.0, 1.0)


@partial(jax.jit, static_argnums=(0, 5))
def _match(
    flow: BidirectionalFlow,
    params: Params,
    a: Float[Array, "b h w 3"],
    b: Float[Array, "b h w 3"],
    reference_size: Float[Array, "2"],
    size: tuple[int, int],
) -> Match:
    with jax.default_matmul_precision("highest"):
        forward, backward = flow(params, a, b)
        confidence = resize_bilinear(forward_backward_confidence(forward, backward), size)
        warp = flow_to_warp(forward, size, reference_size)
        return Match(warp, confidence * inside(warp, reference_size))


class DenseMatcher:
    """Resizes both images to one matching size, asks the network, and maps its flow back.

    The two images need neither the same size nor the same proportions. The program that runs the network
    depends on the key-frame's size alone; for references of another size only the resizing is compiled anew.
    """

    def __init__(
        self,
        flow: BidirectionalFlow,
        params: Params,
        matching_size: Callable[[tuple[int, int]], tuple[int, int]],
        refiner: Refiner | None = None,
    ):
        """
        Args:
            flow: the network; one function object for all matchers of a kind, so that they share programs.
            params: its parameters; put on the device once.
            matching_size: (height, width) for the network, from the key-frame's.
            refiner: sharpens the coarse match; None leaves it as it is.
        """
        self._flow = flow
        self._params = jax.device_put(params)
        self._matching_size = matching_size
        self._refiner = refiner

    def coarse(self, pair: Pair) -> Match:
        """The network's match at the key-frame's size."""
        matching = self._matching_size(pair.size)
        a, b = (resize_image(jnp.asarray(image), matching) for image in (pair.anchor, pair.reference))
        return _match(self._flow, self._params, a, b, pair.reference_size, pair.size)

    def refine(self, pair: Pair, match: Match, scale: tuple[float, float]) -> Match:
        """The refiner's match, or `match` without one."""
        return self._refiner(pair, match, scale) if self._refiner else match
