"""The frozen networks' share of a training sample: features, flows and matches of whole frames.

Whole frames, because the matcher finds little in a crop and because inference sees whole frames too; crops
are cut afterwards. None of it depends on what is trained.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.data.clips import ClipSample
from ldip_jax.data.records import Record
from ldip_jax.matching.matcher import Match, Matcher, Pair
from ldip_jax.models.backbone.interface import Backbone
from ldip_jax.models.backbone.propagation import Flows, clip_flows
from ldip_jax.models.ldip import LDIP


@partial(jax.jit, static_argnums=0)
def _features(
    backbone: Backbone, params: dict[str, Any], frames: Float[Array, "1 t h w 3"]
) -> tuple[Float[Array, "1 t h w c"], Flows]:
    def run(net: Backbone, frames: Array) -> tuple[Array, Flows]:
        flows = net.flows(frames)
        return net.features(frames, flows), flows

    return backbone.apply({"params": params}, frames, method=run)  # type: ignore[return-value]


@partial(jax.jit, static_argnums=0)
def _image(
    backbone: Backbone,
    params: dict[str, Any],
    features: Float[Array, "1 h w c"],
    frame: Float[Array, "1 h w 3"],
) -> Float[Array, "1 H W 3"]:
    def run(net: Backbone, features: Array, frame: Array) -> Array:
        return jnp.clip(net.decode(net.upscale(features), frame), 0.0, 1.0)

    return backbone.apply({"params": params}, features, frame, method=run)  # type: ignore[return-value]


@partial(jax.jit, static_argnums=0)
def _followed(net: LDIP, params: dict[str, Any], frames: Float[Array, "1 t h w 3"]) -> Flows:
    return net.apply({"params": {"flow_net": params}}, frames, method=clip_flows)  # type: ignore[return-value]


class FrozenWork:
    """Makes records of clips. Compiles once per size and number of frames."""

    def __init__(
        self,
        backbone: Backbone,
        params: dict[str, Any],
        matcher: Matcher | None,
        flow: tuple[nn.Module, dict[str, Any]] | None = None,
    ):
        """
        Args:
            backbone: the frozen network, x4.
            params: its parameters; put on the device once.
            matcher: finds the references' content in key-frames; None where clips bring their own warps.
            flow: the network that HRIP follows and its parameters; None for the backbone's own.
        """
        self._backbone = backbone
        self._params = jax.device_put(params)
        self._matcher = matcher
        self._flow = None
        if flow is not None:
            self._flow = LDIP(backbone, flow_net=flow[0]), jax.device_put(flow[1])

    def __call__(self, clip: ClipSample) -> Record:
        """Features and flows of C_gt, and the matches of its key-frames' candidates.

        Made-up clips bring exact flows and matches, which are taken as they are.

        The anchor of a match is the backbone's own x4 image of the key-frame, at the size of the true frame.
        """
        span = slice(clip.first, clip.first + clip.count)
        lr, hr = clip.lr[span], clip.hr[span]
        frames = jnp.asarray(lr, jnp.float32)[None] / 255.0
        features, flows = self.features(frames)
        if self._flow is not None and clip.flows is None:
            flows = _followed(*self._flow, frames)
        used = np.unique(clip.candidates[clip.candidates >= 0])
        candidates = np.where(clip.candidates >= 0, np.searchsorted(used, clip.candidates), -1)
        record = Record(
            lr=lr,
            hr=hr,
            features=np.asarray(features[0]).astype(ml_dtypes.bfloat16),
            to_next=np.asarray(flows.to_next[0]),
            to_previous=np.asarray(flows.to_previous[0]),
            keys=clip.keys,
            references=clip.hr[used],
            candidates=candidates,
            warps=np.zeros((*candidates.shape, *hr.shape[1:3], 2), np.float32),
            confidence=np.zeros((*candidates.shape, *hr.shape[1:3], 1), np.float32),
        )
        if clip.flows is not None:
            record = record._replace(to_next=clip.flows[0], to_previous=clip.flows[1])
        if clip.warps is not None and clip.confidence is not None:
            return record._replace(warps=clip.warps, confidence=clip.confidence)
        for k, key in enumerate(clip.keys):
            anchor = self._anchor(features[:, key], frames[:, key], hr.shape[1:3])
            for n in np.flatnonzero(candidates[k] >= 0):
                match = self._match(anchor, record.references[candidates[k, n]], clip.scale)
                record.warps[k, n] = np.asarray(match.warp[0])
                record.confidence[k, n] = np.asarray(match.confidence[0])
        return record

    def features(self, frames: Float[Array, "1 t h w 3"]) -> tuple[Float[Array, "1 t h w c"], Flows]:
        """The backbone's LR features of a clip in [0, 1], and the flows between its frames."""
        return _features(self._backbone, self._params, frames)

    def _anchor(
        self, features: Float[Array, "1 h w c"], frame: Float[Array, "1 h w 3"], size: tuple[int, int]
    ) -> Float[Array, "1 H W 3"]:
        image = _image(self._backbone, self._params, features, frame)
        if image.shape[1:3] == size:
            return image
        return jnp.clip(jax.image.resize(image, (1, *size, 3), "cubic"), 0.0, 1.0)

    def _match(
        self, anchor: Float[Array, "1 H W 3"], reference: np.ndarray, scale: tuple[float, float]
    ) -> Match:
        if self._matcher is None:
            raise ValueError("clips without exact warps need a matcher")
        pair = Pair(anchor, jnp.asarray(reference, jnp.float32)[None] / 255.0)
        return self._matcher.refine(pair, self._matcher.coarse(pair), scale)
