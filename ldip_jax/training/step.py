"""One training step and one validation step, pure functions of state and batch."""

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AbstractMesh, Mesh
from jaxtyping import Array, Float

from ldip_jax.data.crops import Sample
from ldip_jax.models.backbone.propagation import Flows
from ldip_jax.models.ldip import LDIP, KeyFrames
from ldip_jax.models.ref_align import Reference
from ldip_jax.ops.grid import Grid, crop_axis, whole_grid
from ldip_jax.training.config import StepPlan
from ldip_jax.training.sharding import mean_over_devices
from ldip_jax.training.state import TrainState, trained_params, update_average

Params = Mapping[str, Any]


def images(frames: Array | np.ndarray) -> Float[Array, "..."]:
    """uint8 to [0, 1]."""
    return jnp.asarray(frames).astype(jnp.float32) / 255.0


def restored(
    net: LDIP, params: Params, batch: Any, *, propagate: bool, dtype: str = "float32"
) -> Float[Array, "b t H W 3"]:
    """The network's frames for a batch, not clamped, float32.

    Args:
        params: all boxes', frozen and trained.
        batch: a `Sample` with a first axis.
        propagate: False for key-frames alone, without HRIP.
        dtype: compute type of features; images, flows and coordinates stay float32.
    """
    lr = images(batch.lr)
    features = batch.features.astype(dtype)
    flows = Flows(batch.to_next, batch.to_previous)
    keys = None
    if net.lrrf is not None:
        references = Reference(images(batch.images), batch.sizes, batch.warps, batch.confidence, batch.valid)
        keys = KeyFrames(batch.key_index, batch.key_valid, references)

    def run(features, flows, lr, keys, grid=None) -> Array:
        args = features, flows, lr, keys, grid, propagate
        out = cast(Array, net.apply({"params": params}, *args, method=LDIP.restore))
        return out.astype(jnp.float32)

    if net.as_head is None:
        return run(features, flows, lr, keys)

    def one(origin, step, features, flows, lr, keys):
        size = batch.hr.shape[2:4]
        grid = Grid(crop_axis(origin[0], step[0], size[0]), crop_axis(origin[1], step[1], size[1]))
        alone = jax.tree.map(lambda x: x[None], (features, flows, lr, keys))
        features, flows, lr, keys = alone
        return run(features, flows, lr, keys, grid)[0]

    # A grid of its own for each sample: scales differ within a batch.
    return jax.vmap(one)(batch.origin, batch.step, features, flows, lr, keys)


def features_apart(net: LDIP, params: Params, features: Float[Array, "b t h w c"]) -> Float[Array, ""]:
    """L1 between the head's features at x4 and the backbone's own, by the standard deviation of those.

    A head that makes the backbone's features is one that LRRF trained at x4 can stand on.

    Args:
        params: all boxes', frozen and trained.
        features: the backbone's LR features.
    """
    flat = features.reshape(-1, *features.shape[2:])
    h, w = flat.shape[1:3]

    def upscaled(net: LDIP, grid: Grid | None) -> Float[Array, "n H W 64"]:
        return cast(Array, net.apply({"params": params}, flat, grid, method=LDIP.upscale)).astype(jnp.float32)

    own = jax.lax.stop_gradient(upscaled(net.clone(as_head=None, as_decoder=None), None))
    return jnp.mean(jnp.abs(upscaled(net, whole_grid((h, w), (4 * h, 4 * w))) - own)) / jnp.std(own)


def train_step(
    net: LDIP,
    optimizer: optax.GradientTransformation,
    plan: StepPlan,
    state: TrainState,
    frozen: Params,
    batch: Sample,
    *,
    mesh: Mesh | AbstractMesh | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """One update; L1 over all frames and channels, and of features as the plan says.

    A loss or gradient that is not finite leaves parameters, optimiser and average as they are.

    Args:
        net, optimizer, plan: how; static.
        state: used up.
        frozen: the other boxes' parameters; no gradient reaches them.
        batch: the global batch.
        mesh: devices that do their own samples each; None: this is one device's program.

    Returns:
        The state after it, and "loss", "grad_norm" and "skipped" (0 or 1) as scalars.
    """

    def loss(params: Params, frozen: Params, batch: Sample) -> Float[Array, ""]:
        every = {**frozen, **params}
        out = restored(net, every, batch, propagate=plan.propagate, dtype=plan.dtype)
        value = jnp.mean(jnp.abs(out - images(batch.hr)))
        if plan.feature_loss:
            value += plan.feature_loss * features_apart(net, every, jnp.asarray(batch.features, plan.dtype))
        return value

    learn = jax.value_and_grad(loss)
    if mesh is not None:
        learn = mean_over_devices(learn, mesh)
    value, gradients = learn(state.params, frozen, batch)
    norm = optax.tree.norm(gradients)
    fine = jnp.isfinite(value) & jnp.isfinite(norm)
    updates, opt_state = optimizer.update(gradients, state.opt_state, cast(Any, state.params))
    params = cast(Params, optax.apply_updates(cast(Any, state.params), updates))
    ema = state.ema
    if ema is not None:
        ema = update_average(ema, params, state.step, plan.ema)
    new = TrainState(state.step + 1, params, opt_state, ema)
    kept = jax.tree.map(lambda a, b: jnp.where(fine, a, b), new, state)
    metrics = {"loss": value, "grad_norm": norm, "skipped": 1.0 - fine.astype(jnp.float32)}
    return kept.replace(step=state.step + 1), metrics


def psnr(a: Float[Array, "b t H W 3"], b: Float[Array, "b t H W 3"]) -> Float[Array, ""]:
    """Mean over frames of the RGB PSNR in dB, images clipped to [0, 1], not quantised."""
    error = jnp.mean(jnp.square(jnp.clip(a, 0.0, 1.0) - b), axis=(2, 3, 4))
    return jnp.mean(-10.0 * jnp.log10(jnp.maximum(error, 1e-10)))


def validation_step(
    net: LDIP, plan: StepPlan, state: TrainState, frozen: Params, batch: Sample
) -> tuple[dict[str, Array], Float[Array, "b t H W 3"]]:
    """PSNR of the averaged weights and of the backbone alone, and the frames made."""
    params = {**frozen, **trained_params(state)}
    out = restored(net, params, batch, propagate=plan.propagate, dtype=plan.dtype)
    alone = net.clone(lrrf=None) if net.as_head is None else None
    hr = images(batch.hr)
    metrics = {"psnr": psnr(out, hr)}
    if alone is not None:
        base = restored(alone, params, batch, propagate=False, dtype=plan.dtype)
        metrics |= {"psnr_backbone": psnr(base, hr), "gain": metrics["psnr"] - psnr(base, hr)}
    return metrics, out
