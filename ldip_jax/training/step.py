"""One training step and one validation step, as pure functions of state and batch."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AbstractMesh, Mesh
from jaxtyping import Array, Float

from ldip_jax.data.crops import Sample
from ldip_jax.models.carry import Routes
from ldip_jax.models.ldip import LDIP, KeyFrames
from ldip_jax.models.networks.backbone import Flows
from ldip_jax.models.ref_align import Reference
from ldip_jax.ops.grid import Grid, crop_axis, whole_grid
from ldip_jax.training.config import StepOptions
from ldip_jax.training.sharding import mean_of_all, mean_over_devices
from ldip_jax.training.state import TrainState, trained_params, update_average

Params = Mapping[str, Any]


def images(frames: Array | np.ndarray) -> Float[Array, "..."]:
    """uint8 to float32 in [0, 1]."""
    return jnp.asarray(frames).astype(jnp.float32) / 255.0


def restored_images(
    net: LDIP, params: Params, batch: Any, *, propagate: bool, dtype: str = "float32"
) -> Float[Array, "b t H W 3"]:
    """The network's frames for a batch, not clamped, float32.

    Args:
        params: of all components, frozen and trained.
        batch: a `Sample` with a leading batch axis.
        propagate: False for only key-frames, without HRIP.
        dtype: compute type of features; images, flows and coordinates stay float32.
    """
    lr = images(batch.lr)
    features = batch.features.astype(dtype)
    flows = Flows(batch.to_next, batch.to_previous)
    key_frames = None
    if net.lrrf is not None:
        references = Reference(images(batch.images), batch.sizes, batch.warps, batch.confidence, batch.valid)
        key_frames = KeyFrames(batch.key_frames, batch.key_valid, references)

    routes = None
    if key_frames is not None and batch.route_warps is not None:
        routes = Routes(batch.route_warps, batch.route_confidence)

    def run(features, flows, lr, key_frames, routes, grid=None) -> Array:
        args = features, flows, lr, key_frames, grid, propagate, routes
        out = cast(Array, net.apply({"params": params}, *args, method=LDIP.restore))
        return out.astype(jnp.float32)

    if net.as_head is None:
        return run(features, flows, lr, key_frames, routes)

    def one(origin, step, features, flows, lr, key_frames, routes):
        size = batch.hr.shape[2:4]
        grid = Grid(crop_axis(origin[0], step[0], size[0]), crop_axis(origin[1], step[1], size[1]))
        single = jax.tree.map(lambda x: x[None], (features, flows, lr, key_frames, routes))
        features, flows, lr, key_frames, routes = single
        return run(features, flows, lr, key_frames, routes, grid)[0]

    # Each sample has its own grid, because scales differ within a batch.
    return jax.vmap(one)(batch.origin, batch.step, features, flows, lr, key_frames, routes)


def feature_distance(
    net: LDIP,
    params: Params,
    features: Float[Array, "b t h w c"],
    mean: Callable[[Array], Array] = jnp.mean,
) -> Float[Array, ""]:
    """L1 between the head's features at x4 and the backbone's, divided by the latter's standard deviation.

    An LRRF that was trained at x4 can be used on a head that reproduces the backbone's features.

    Args:
        params: of all components, frozen and trained.
        features: the backbone's LR features.
        mean: the mean over all samples of the batch, including those of other devices; for the deviation.
    """
    flat = features.reshape(-1, *features.shape[2:])
    h, w = flat.shape[1:3]

    def upscaled(net: LDIP, grid: Grid | None) -> Float[Array, "n H W 64"]:
        return cast(Array, net.apply({"params": params}, flat, grid, method=LDIP.upscale)).astype(jnp.float32)

    target = jax.lax.stop_gradient(upscaled(net.clone(as_head=None, as_decoder=None), None))
    deviation = jnp.sqrt(mean(jnp.square(target - mean(target))))
    return jnp.mean(jnp.abs(upscaled(net, whole_grid((h, w), (4 * h, 4 * w))) - target)) / deviation


def train_step(
    net: LDIP,
    optimizer: optax.GradientTransformation,
    options: StepOptions,
    state: TrainState,
    frozen: Params,
    batch: Sample,
    *,
    mesh: Mesh | AbstractMesh | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """One update. The loss is L1 over all frames and channels, plus `options.feature_loss` *
    `feature_distance`.

    A loss or gradient that is not finite leaves parameters, optimizer state and average unchanged.

    Args:
        net, optimizer, options: static.
        state: before the step; may be donated.
        frozen: parameters of the other components; no gradient reaches them.
        batch: the global batch.
        mesh: devices, each of which computes its own samples; None for a program on one device.

    Returns:
        The state after the step, and "loss", "grad_norm" and "skipped" (0 or 1) as scalars.
    """

    mean = jnp.mean if mesh is None else mean_of_all

    def loss(params: Params, frozen: Params, batch: Sample) -> Float[Array, ""]:
        every = {**frozen, **params}
        out = restored_images(net, every, batch, propagate=options.propagate, dtype=options.dtype)
        value = jnp.mean(jnp.abs(out - images(batch.hr)))
        if options.feature_loss:
            features = jnp.asarray(batch.features, options.dtype)
            value += options.feature_loss * feature_distance(net, every, features, mean)
        return value

    return update(loss, optimizer, options.ema, state, frozen, batch, mesh)


def update(
    loss: Callable[[Params, Params, Any], Float[Array, ""]],
    optimizer: optax.GradientTransformation,
    ema: float,
    state: TrainState,
    frozen: Params,
    batch: Any,
    mesh: Mesh | AbstractMesh | None,
) -> tuple[TrainState, dict[str, Array]]:
    """One update by the gradient of `loss(params, frozen, batch)`; see `train_step`.

    Args:
        ema: decay of the running average of the weights, if the state has one.
    """
    learn = jax.value_and_grad(loss)
    if mesh is not None:
        learn = mean_over_devices(learn, mesh)
    value, gradients = learn(state.params, frozen, batch)
    norm = optax.tree.norm(gradients)
    finite = jnp.isfinite(value) & jnp.isfinite(norm)
    updates, opt_state = optimizer.update(gradients, state.opt_state, cast(Any, state.params))
    params = cast(Params, optax.apply_updates(cast(Any, state.params), updates))
    average = state.ema
    if average is not None:
        average = update_average(average, params, state.step, ema)
    new = TrainState(state.step + 1, params, opt_state, average)
    kept_state = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
    metrics = {"loss": value, "grad_norm": norm, "skipped": 1.0 - finite.astype(jnp.float32)}
    return kept_state.replace(step=state.step + 1), metrics


def psnr(a: Float[Array, "b t H W 3"], b: Float[Array, "b t H W 3"]) -> Float[Array, ""]:
    """Mean over frames of the RGB PSNR in dB; `a` is clipped to [0, 1], and nothing is quantised."""
    error = jnp.mean(jnp.square(jnp.clip(a, 0.0, 1.0) - b), axis=(2, 3, 4))
    return jnp.mean(-10.0 * jnp.log10(jnp.maximum(error, 1e-10)))


def validation_step(
    net: LDIP, options: StepOptions, state: TrainState, frozen: Params, batch: Sample
) -> tuple[dict[str, Array], Float[Array, "b t H W 3"]]:
    """Metrics and restored frames, with the averaged weights if there are any.

    The metrics are "psnr" and, without a head, "psnr_backbone" (of only the backbone) and "gain", all in dB.
    """
    params = {**frozen, **trained_params(state)}
    out = restored_images(net, params, batch, propagate=options.propagate, dtype=options.dtype)
    backbone_only = net.clone(lrrf=None) if net.as_head is None else None
    hr = images(batch.hr)
    metrics = {"psnr": psnr(out, hr)}
    if backbone_only is not None:
        base = restored_images(backbone_only, params, batch, propagate=False, dtype=options.dtype)
        metrics |= {"psnr_backbone": psnr(base, hr), "gain": metrics["psnr"] - psnr(base, hr)}
    return metrics, out
