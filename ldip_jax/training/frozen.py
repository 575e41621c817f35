"""The frozen networks' part of a record: features, flows, routes and matches of whole frames.

A record is made once, and crops are drawn from it many times, so whole frames are worth their cost. Live
training computes only what a crop needs (`training/live.py`). None of this depends on what is trained.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ldip_jax.data.clips import ClipSample
from ldip_jax.data.records import Record
from ldip_jax.matching.loading import load_matcher
from ldip_jax.matching.matcher import Match, Matcher, Pair
from ldip_jax.models.carry import Routes
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.networks.backbone import Backbone, Flows, clip_flows
from ldip_jax.training.config import Config, needs_routes
from ldip_jax.training.setup import Run
from ldip_jax.weights.flow import flow_network


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
def _clip_flows(net: LDIP, params: dict[str, Any], frames: Float[Array, "1 t h w 3"]) -> Flows:
    return net.apply({"params": {"flow_net": params}}, frames, method=clip_flows)  # type: ignore[return-value]


@partial(jax.jit, static_argnums=(0, 5))
def _routes(
    backbone: Backbone,
    params: dict[str, Any],
    frames: Float[Array, "1 t h w 3"],
    images: Float[Array, "1 t H W 3"],
    flows: Flows,
    exact: bool,
    key: Int[Array, ""],
) -> Routes:
    index = key[None, None]
    return LDIP(backbone).apply(  # type: ignore[return-value]
        {"params": {"backbone": params}}, frames, images, flows, index, exact, method=LDIP.routes
    )


def bare_record(clip: ClipSample) -> Record:
    """The record of a clip before any network: exact flows and matches if the clip has them, else nothing."""
    span = slice(clip.first, clip.first + clip.count)
    lr, hr = clip.lr[span], clip.hr[span]
    used = np.unique(clip.candidates[clip.candidates >= 0])
    candidates = np.where(clip.candidates >= 0, np.searchsorted(used, clip.candidates), -1)
    stills = clip.hr if clip.references is None else clip.references
    lr_references = clip.lr[used] if clip.damage or clip.references is not None else None
    none = np.zeros((0, 0, 0, 0), np.float32)
    record = Record(
        lr=lr,
        hr=hr,
        features=none,
        to_next=none,
        to_previous=none,
        key_frames=clip.key_frames,
        references=stills[used],
        candidates=candidates,
        warps=none,
        confidence=none,
        lr_references=lr_references,
    )
    if clip.flows is not None:
        record = record._replace(to_next=clip.flows[0], to_previous=clip.flows[1])
    if clip.warps is not None and clip.confidence is not None:
        record = record._replace(warps=clip.warps, confidence=clip.confidence)
    return record


class FrozenNetworks:
    """Makes records from clips. Compiles once for each size and number of frames."""

    def __init__(
        self,
        backbone: Backbone,
        params: dict[str, Any],
        matcher: Matcher | None,
        flow: tuple[nn.Module, dict[str, Any]] | None = None,
        *,
        routes: bool = False,
    ):
        """
        Args:
            backbone: the frozen network, x4.
            params: its parameters; put on the device once.
            matcher: finds the references' content in key-frames; None if clips bring their own warps.
            flow: the network whose flow HRIP follows, and its parameters; None for the backbone's own flow.
            routes: whether to compute the routes along which detail is carried.
        """
        self._needs_routes = routes
        self._backbone = backbone
        self._params = jax.device_put(params)
        self._matcher = matcher
        self._flow = None
        if flow is not None:
            self._flow = LDIP(backbone, flow_net=flow[0]), jax.device_put(flow[1])

    def __call__(self, clip: ClipSample) -> Record:
        """Features and flows of C_gt, and the matches of its key-frames' candidates.

        Features are float32, as in inference; they are rounded to bfloat16 when the record is stored.

        Synthetic clips bring exact flows and matches, which are used unchanged.

        The anchor of a match is the backbone's x4 image of the key-frame, resized to the true frame's size.
        """
        record = bare_record(clip)
        frames = jnp.asarray(record.lr, jnp.float32)[None] / 255.0
        features, flows = self.features(frames)
        if clip.flows is None:
            if self._flow is not None:
                flows = _clip_flows(*self._flow, frames)
            to_next, to_previous = (np.asarray(x[0]) for x in flows)
            record = record._replace(to_next=to_next, to_previous=to_previous)
        record = record._replace(features=np.asarray(features[0]))
        if self._needs_routes:
            flows = Flows(jnp.asarray(record.to_next)[None], jnp.asarray(record.to_previous)[None])
            record = self._add_routes(record, frames, features, flows, exact=clip.flows is not None)
        return record if clip.warps is not None else self._add_matches(record, clip, features, frames)

    def _add_matches(self, record: Record, clip: ClipSample, features: Array, frames: Array) -> Record:
        shape = (*record.candidates.shape, *record.hr.shape[1:3])
        warps, confidence = np.zeros((*shape, 2), np.float32), np.zeros((*shape, 1), np.float32)
        for k, key in enumerate(clip.key_frames):
            anchor = self._anchor(features[:, key], frames[:, key], record.hr.shape[1:3])
            for n in np.flatnonzero(record.candidates[k] >= 0):
                match = self._match(anchor, record.references[record.candidates[k, n]], clip.scale)
                warps[k, n] = np.asarray(match.warp[0])
                confidence[k, n] = np.asarray(match.confidence[0])
        return record._replace(warps=warps, confidence=confidence)

    def features(self, frames: Float[Array, "1 t h w 3"]) -> tuple[Float[Array, "1 t h w c"], Flows]:
        """The backbone's LR features of a clip in [0, 1], and the flows between its frames."""
        return _features(self._backbone, self._params, frames)

    def _add_routes(
        self, record: Record, frames: Array, features: Array, flows: Flows, *, exact: bool
    ) -> Record:
        """The record with routes to its key-frames, one by one: another number is not another program."""
        size = record.hr.shape[1:3]
        count = frames.shape[1]
        images = jnp.stack([self._anchor(features[:, t], frames[:, t], size) for t in range(count)], axis=1)
        routes = [
            _routes(self._backbone, self._params, frames, images, flows, exact, jnp.int32(key))
            for key in record.key_frames
        ]
        warp, confidence = (
            np.concatenate([np.asarray(x[0]) for x in xs], axis=1) for xs in zip(*routes, strict=True)
        )
        return record._replace(route_warps=warp, route_confidence=confidence)

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


def frozen_networks(config: Config, run: Run) -> FrozenNetworks:
    """The frozen networks of a run. Synthetic clips bring their own matches, so they need no matcher."""
    network = run.net.backbone.clone(parent=None, name=None)
    flow, matcher = frozen_flow(run), frozen_matcher(config, run)
    return FrozenNetworks(network, run.backbone.params, matcher, flow, routes=needs_routes(config))


def frozen_flow(run: Run) -> tuple[nn.Module, dict[str, Any]] | None:
    """The network whose flow HRIP follows, and its parameters; None for the backbone's own."""
    net = flow_network(run.flow)
    return None if net is None or run.flow is None else (net, run.flow.params)


def frozen_matcher(config: Config, run: Run) -> Matcher | None:
    """The matcher of a run's clips; None if they bring their own matches."""
    if config.data.dataset in ("synthetic", "stills"):
        return None
    return load_matcher(config.matcher, run.backbone.params["spynet"], flow=frozen_flow(run))
