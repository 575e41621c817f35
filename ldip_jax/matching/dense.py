"""Matching with a flow network that runs in both directions; `gmflow` has the usual one."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import cache, partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.matching.matcher import SIGMA, Match, OnDisk, Pair, confident_share, flow_to_warp
from ldip_jax.matching.refine import Refiner
from ldip_jax.models.networks.gmflow import GMFlow, extend, gmflow_size
from ldip_jax.models.networks.spynet import SPyNet
from ldip_jax.ops.blur import gaussian_blur
from ldip_jax.ops.resize import resize_bicubic, resize_bilinear
from ldip_jax.ops.warp import forward_backward_confidence, inside

Params = dict[str, Any]
# (params, a, b) -> (flow a -> b, flow b -> a), `b h w 3` images and `b h w 2` flows of one size.
BidirectionalFlow = Callable[[Params, Array, Array], tuple[Array, Array]]
# (params, image) -> what the network computes from each image on its own; and from this of both, the flows.
Encode = Callable[[Params, Array], Any]
Compare = Callable[[Params, Any, Any], tuple[Array, Array]]
# Features of this many stills, sharp or low-passed, are kept; at GMFlow's largest size, each takes 9 MB.
CACHED_STILLS = 16
# On a damaged key-frame, networks match more if both images are low-passed: standard deviation, in pixels of
# the matching size. That match is taken if it is confident of CLEARLY_MORE times as many pixels. On clips
# compressed at CRF 23 and 30 it was mostly of 1.5 to 10 times as many; on clean ones it gains nothing.
SOFTENED, CLEARLY_MORE = 3.2, 1.3
# A damaged key-frame lacks fine detail: the band between low-passes of these sigmas, over a coarser band that
# damage hardly reaches. Divided by that of the still, this ratio was at least 0.84 on five clean clips, and
# at most 0.74 at CRF 23 and 30.
FINE_BAND, COARSE_BAND, DAMAGED = (1.0, 2.0), (4.5, 6.4), 0.79


@partial(jax.jit, static_argnums=(1, 2))
def resize_image(
    image: Float[Array, "b h w 3"], size: tuple[int, int], sigma: float = 0.0
) -> Float[Array, "b H W 3"]:
    """Antialiased bicubic, clipped to [0, 1], then low-passed by `sigma` pixels."""
    with jax.default_matmul_precision("highest"):
        resized = jnp.clip(resize_bicubic(image.astype(jnp.float32), size), 0.0, 1.0)
        return gaussian_blur(resized, (sigma, sigma)) if sigma else resized


@partial(jax.jit, static_argnums=1)
def fine_detail(image: Float[Array, "b h w 3"], size: tuple[int, int]) -> Float[Array, ""]:
    """Standard deviation of the image's fine band over that of its coarse band, at (h, w) = `size`."""
    luma = jnp.mean(resize_image(image, size), axis=-1, keepdims=True)

    def deviation(band: tuple[float, float]) -> Float[Array, ""]:
        low, high = (gaussian_blur(luma, (sigma, sigma)) for sigma in reversed(band))
        return jnp.sqrt(jnp.mean(jnp.square(high - low)))

    return deviation(FINE_BAND) / jnp.maximum(deviation(COARSE_BAND), 1e-6)


def image_key(image: Array | np.ndarray) -> Hashable:
    """The same for the same image while that exists: by its place in memory, or by the JAX array."""
    if isinstance(image, np.ndarray):
        return image.__array_interface__["data"][0], image.shape, image.strides[1:]
    return id(image)


class ImageCache:
    """A function of images that is computed once for each image, as long as few others come in between."""

    def __init__(
        self, function: Callable[..., Any], capacity: int = CACHED_STILLS, *, only_stills: bool = False
    ):
        """
        Args:
            function: of an image, and of further hashable arguments.
            capacity: how many results are held, and the images that they belong to.
            only_stills: hold only those of NumPy arrays. Frames of the clip are JAX arrays, which do not
                come back.
        """
        self._function, self._capacity, self._only_stills = function, capacity, only_stills
        self._results: OrderedDict[Hashable, tuple[Any, Any]] = OrderedDict()

    def __call__(self, image: Any, *more: Hashable) -> Any:
        if self._only_stills and not isinstance(image, np.ndarray):
            return self._function(image, *more)
        key = (image_key(image), *more)
        if key not in self._results:
            self._results[key] = image, self._function(image, *more)
            if len(self._results) > self._capacity:
                self._results.popitem(last=False)
        self._results.move_to_end(key)
        return self._results[key][1]


@partial(jax.jit, static_argnums=0)
def encode_compiled(encode: Encode, params: Params, image: Float[Array, "b h w 3"]) -> Any:
    """`encode(params, image)`, compiled; the same function object shares programs."""
    with jax.default_matmul_precision("highest"):
        return encode(params, image)


@partial(jax.jit, static_argnums=(0, 5, 6))
def _match(
    flow: Compare,
    params: Params,
    a: Any,
    b: Any,
    reference_size: Float[Array, "2"],
    size: tuple[int, int],
    matching: tuple[int, int],
) -> Match:
    with jax.default_matmul_precision("highest"):
        # Networks may have padded the images.
        forward, backward = (x[:, : matching[0], : matching[1]] for x in flow(params, a, b))
        confidence = resize_bilinear(forward_backward_confidence(forward, backward, SIGMA), size)
        warp = flow_to_warp(forward, size, reference_size)
        return Match(warp, confidence * inside(warp, reference_size))


class DenseMatcher:
    """Resizes both images to one matching size, runs the network, and maps its flow back.

    What the network computes from an image on its own is computed once for each image.

    The two images may have different sizes and proportions. The program that runs the network depends only on
    the key-frame's size; for a reference of another size, only the resizing is compiled again.
    """

    def __init__(
        self,
        flow: BidirectionalFlow,
        params: Params,
        matching_size: Callable[[tuple[int, int]], tuple[int, int]],
        refiner: Refiner | None = None,
        halves: tuple[Encode, Compare] | None = None,
        softens: bool = False,
    ):
        """
        Args:
            flow: the network; all matchers of a kind must be given the same function object, so that they
                share programs.
            params: its parameters; they are put on the device once.
            matching_size: from the key-frame's (height, width) to the network's.
            refiner: refines the coarse match; None leaves it as it is.
            halves: `flow` in two parts, so that each image is encoded once; None: it has no such parts.
            softens: whether low-passed images of damaged key-frames are matched as well; see `coarse`.
        """
        self._encode, self._compare = halves or (None, flow)
        # A key-frame is matched with all its references in turn; stills come back at the next key-frame.
        self._anchor_cache, self._still_cache = (
            ImageCache(self._encode_image, capacity=2),
            ImageCache(self._encode_image, only_stills=True),
        )
        self._still_detail_cache = ImageCache(
            lambda image, size: fine_detail(jnp.asarray(image), size), only_stills=True
        )
        self._softens = softens
        self.flow = flow
        self.params = jax.device_put(params)
        self.matching_size = matching_size
        self.refiner = refiner

    def coarse(self, pair: Pair) -> Match:
        """The network's match at the key-frame's size.

        If the key-frame is damaged, it is of low-passed images, provided that these match clearly more.
        """
        sharp = self._match_images(pair, 0.0)
        share = confident_share(sharp.confidence)
        if not self._softens or share * CLEARLY_MORE >= 1.0 or not self._damaged(pair):
            return sharp
        soft = self._match_images(pair, SOFTENED)
        return soft if confident_share(soft.confidence) > CLEARLY_MORE * share else sharp

    def _damaged(self, pair: Pair) -> bool:
        """Whether the key-frame has clearly less fine detail than the reference."""
        matching = self.matching_size(pair.size)
        still = self._still_detail_cache(pair.reference, matching)
        return bool(fine_detail(jnp.asarray(pair.anchor), matching) < DAMAGED * still)

    def _match_images(self, pair: Pair, sigma: float) -> Match:
        matching = self.matching_size(pair.size)
        a = self._anchor_cache(pair.anchor, matching, sigma)
        b = self._still_cache(pair.reference, matching, sigma)
        return _match(self._compare, self.params, a, b, pair.reference_size, pair.size, matching)

    def _encode_image(
        self, image: Array | np.ndarray | OnDisk, matching: tuple[int, int], sigma: float
    ) -> Any:
        resized = resize_image(jnp.asarray(image), matching, sigma)
        return resized if self._encode is None else encode_compiled(self._encode, self.params, resized)

    def refine(self, pair: Pair, match: Match, scale: tuple[float, float]) -> Match:
        """The refined match. Without a refiner, `match` is returned unchanged.

        The arrays of `match` may be on disk.
        """
        return self.refiner(pair, match, scale) if self.refiner else match


Flows = tuple[Float[Array, "b h w 2"], Float[Array, "b h w 2"]]


def gmflow_bidirectional(
    params: dict[str, Any], a: Float[Array, "b h w 3"], b: Float[Array, "b h w 3"]
) -> Flows:
    """GMFlow on images of any size: they are padded by replication to multiples of 32, the flows cropped."""
    h, w = a.shape[1:3]
    forward, backward = cast(Flows, GMFlow().apply({"params": params}, extend(a), extend(b)))
    return forward[:, :h, :w], backward[:, :h, :w]


@cache
def bidirectional_flow(net: nn.Module) -> Callable[..., Flows]:
    """Runs a flow network from `a` to `b` and back, in one batch; equal networks get the same function."""

    def run(params: dict[str, Any], a: Float[Array, "b h w 3"], b: Float[Array, "b h w 3"]) -> Flows:
        flow = net.apply({"params": params}, jnp.concatenate([a, b]), jnp.concatenate([b, a]))
        forward, backward = jnp.split(cast(Array, flow), 2)
        return forward, backward

    return run


def same_size(size: tuple[int, int]) -> tuple[int, int]:
    """The key-frame's own size."""
    return size


def flow_matcher(net: nn.Module, params: dict[str, Any]) -> DenseMatcher:
    """The clip's optical-flow network: cheap, for small motion.

    SPyNet runs at the key-frame's own size. Other networks compare all pixels with each other, and run at
    GMFlow's matching size.
    """
    size = same_size if isinstance(net, SPyNet) else gmflow_size
    # Flax modules are hashable, by their fields.
    return DenseMatcher(bidirectional_flow(net), params, size)  # type: ignore[arg-type]
