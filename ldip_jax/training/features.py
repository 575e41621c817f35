"""Measurements of a frozen network's HR features: their scale, and how they represent detail."""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, UInt8

from ldip_jax.errors import InputError
from ldip_jax.models.ldip import LDIP
from ldip_jax.ops.conv import conv2d
from ldip_jax.ops.grid import whole_grid
from ldip_jax.training.setup import Run
from ldip_jax.training.sharding import of_first_process

# The number of crops of each clip's middle frame, and their sides in LR and HR pixels.
CROPS, LR, HR = 8, 20, 80
BATCH, STEPS, RATE = 4, 200, 0.02
# Images in [0, 1] are multiplied by this for the extractor.
EXTRACTOR_SCALE = 4.0
BLUR = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0]).astype(np.float32) / 16.0
BLURS = 5


class DetailMaps(NamedTuple):
    """3x3 convolutions between HR features, in LRRF's scale, and an image's detail, in the extractor's scale.

    Attributes:
        read, bias: from features to detail.
        write: from detail to the features that produce it.
    """

    read: Float[np.ndarray, "3 3 64 3"]
    bias: Float[np.ndarray, "3"]
    write: Float[np.ndarray, "3 3 3 64"]


class MeasuredClip(NamedTuple):
    """The parts of a training clip that measurements use.

    Attributes:
        features: the backbone's LR features.
        lr, hr: frames.
    """

    features: Float[np.ndarray, "t h w c"]
    lr: UInt8[np.ndarray, "t h w 3"]
    hr: UInt8[np.ndarray, "t H W 3"]


def extract_detail(image: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """What a blur of 1.6 pixels removes from images in [0, 1], times `EXTRACTOR_SCALE`."""
    kernel = jnp.asarray(BLUR[:, :, None, None] * np.eye(3, dtype=np.float32))
    blurred = image
    for _ in range(BLURS):
        blurred = conv2d(blurred, kernel)
    return EXTRACTOR_SCALE * (image - blurred)


def fit_detail_maps(run: Run, clips: Iterable[MeasuredClip]) -> DetailMaps:
    """Fit `read` and `bias` by least squares, and `write` by gradient descent through the decoder.

    `write` is fitted to the detail that the clips' true frames have and the network's images lack.

    Raises:
        InputError: the frames are too small.
    """
    assert run.net.lrrf is not None
    net, scale = run.net.clone(lrrf=None), run.net.lrrf.feature_scale
    grid = None if net.as_head is None else whole_grid((LR, LR), (HR, HR))
    params = {"params": {**run.frozen, **{k: v for k, v in run.params.items() if k != "lrrf"}}}

    @jax.jit
    def upscaled(features: Array) -> Array:
        return cast(Array, net.apply(params, features, grid, method=LDIP.upscale))

    def decoded(hr: Array, frame: Array) -> Array:
        return cast(Array, net.apply(params, hr, frame, grid, method=LDIP.decode))

    crops = [crop for clip in clips for crop in _crops(clip)]
    stacks = (np.stack(parts) for parts in zip(*crops, strict=True))
    features, lr, hr = (jnp.asarray(part, jnp.float32) for part in stacks)
    lr, hr = lr / 255.0, hr / 255.0
    maps = upscaled(features)
    images = jax.jit(decoded)(maps, lr)
    backbone_detail = extract_detail(images)
    read, bias = _least_squares(np.asarray(maps) / scale, np.asarray(backbone_detail))
    missing = extract_detail(hr) - backbone_detail

    def loss(write: Array, index: Array) -> Array:
        added = scale * conv2d(missing[index], write)
        change = decoded(maps[index] + added, lr[index]) - images[index]
        return jnp.mean(jnp.square(EXTRACTOR_SCALE * change - missing[index]))

    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, STEPS))

    @jax.jit
    def step(write: Array, state: optax.OptState, index: Array) -> tuple[Array, optax.OptState]:
        updates, state = optimizer.update(jax.grad(loss)(write, index), state)
        return cast(Array, optax.apply_updates(write, updates)), state

    write = jnp.zeros((3, 3, 3, maps.shape[-1]))
    state = optimizer.init(write)
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        write, state = step(write, state, jnp.asarray(rng.integers(len(crops), size=BATCH)))
    return DetailMaps(read, bias, np.asarray(write))


def _crops(clip: MeasuredClip) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Features, LR and HR pixels at a few places. If the scale is not x4, HR is only roughly from there."""
    (h, w), (height, width) = clip.lr.shape[1:3], clip.hr.shape[1:3]
    if min(h, w) < LR or min(height, width) < HR:
        raise InputError(
            f"config.fusion_start=transfer: frames of {width}x{height}, LR {w}x{h}, are too small to learn"
            f" from; {HR}x{HR} and {LR}x{LR} are needed"
        )
    rng = np.random.default_rng(clip.lr.shape[1:3])
    t = len(clip.lr) // 2
    found = []
    for _ in range(CROPS):
        y, x = (int(rng.integers(n - LR + 1)) for n in clip.lr.shape[1:3])
        top, left = (min(4 * a, n - HR) for a, n in zip((y, x), clip.hr.shape[1:3], strict=True))
        window = (t, slice(y, y + LR), slice(x, x + LR))
        found.append((clip.features[window], clip.lr[window], clip.hr[t, top : top + HR, left : left + HR]))
    return found


def _least_squares(maps: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of the 3x3 convolution from `maps` to `target`, fitted away from the crops' edges."""
    edge = BLURS + 1
    inner = slice(edge, HR - edge)
    shifted = [
        maps[:, edge + i - 1 : HR - edge + i - 1, edge + j - 1 : HR - edge + j - 1]
        for i in range(3)
        for j in range(3)
    ]
    x = np.concatenate(shifted, axis=-1).reshape(-1, 9 * maps.shape[-1]).astype(np.float64)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    y = target[:, inner, inner].reshape(-1, 3).astype(np.float64)
    solution = np.linalg.solve(x.T @ x + 1e-6 * len(x) * np.eye(x.shape[1]), x.T @ y)
    read = solution[:-1].reshape(3, 3, maps.shape[-1], 3)
    return read.astype(np.float32), solution[-1].astype(np.float32)


def with_feature_scale(run: Run, clips: Iterable[MeasuredClip]) -> Run:
    """The run with the standard deviation of its HR features as LRRF's scale.

    The scale is rounded to two digits, so that another machine finds the same one. The processes of a run
    could still round differently, so all of them use the value of the first process.

    Args:
        clips: training clips; only the middle frame of each is used.
    """
    assert run.net.lrrf is not None
    net = run.net.clone(lrrf=None)

    @jax.jit
    def standard_deviation(features: Float[Array, "1 h w c"]) -> Float[Array, ""]:
        h, w = features.shape[1:3]
        grid = None if net.as_head is None else whole_grid((h, w), (4 * h, 4 * w))
        hr = net.apply({"params": run.frozen}, features, grid, method=LDIP.upscale)
        return jnp.std(cast(Array, hr))

    middles = (clip.features[len(clip.features) // 2] for clip in clips)
    found = [float(standard_deviation(jnp.asarray(features[None], jnp.float32))) for features in middles]
    rounded = np.float32(f"{np.mean(found):.2g}")
    scale = float(f"{float(of_first_process(rounded)):.2g}")
    lrrf = run.net.lrrf.clone(feature_scale=scale)
    modules = {**run.modules, "lrrf": {**run.modules["lrrf"], "feature_scale": scale}}
    return replace(run, net=run.net.clone(lrrf=lrrf), modules=modules)
