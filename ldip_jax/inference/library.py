"""For researchers: load LDIP with its weights, and match references with key-frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ldip_jax.errors import InputError
from ldip_jax.inference.arguments import Frames, Image, as_float, as_stills, real_number, whole_number
from ldip_jax.inference.model import load_model
from ldip_jax.inference.programs import Programs
from ldip_jax.inference.references import ReferenceFinder, ReferenceRules, WindowFrames, make_matcher
from ldip_jax.inference.streaming import WindowFeatures
from ldip_jax.models.ldip import LDIP, KeyFrames
from ldip_jax.models.ref_align import Reference
from ldip_jax.ops.grid import Grid
from ldip_jax.weights.export import shipped_export


def load_pretrained(
    backbone: str | Path = "basicvsr-reds4",
    lrrf: str | Path = "default",
    *,
    scale: float = 4.0,
    flow: str | Path | None = None,
) -> tuple[LDIP, dict[str, Any]]:
    """Load LDIP and its parameters.

    `jax.jit(model.apply)({"params": params}, frames, keys)` runs it over a batch of short clips in one
    program; other methods of `LDIP` run its stages: `features`, `images`, `refine`, `spread`, `decode`.

    Args:
        backbone: name (see `ldip weights list`) or file of the backbone's weights; fetched if necessary.
        lrrf: "default": the weights shipped for the backbone and scale. "none": only the backbone. Otherwise,
            the name of shipped weights, or the file of an export.
        scale: 4, or another scale from 1 to 8, for which "default" is the arbitrary-scale head with LRRF.
        flow: name or file of the optical flow that detail follows; None: the one that LRRF was trained with.

    Raises:
        InputError: weights cannot be found, fetched or read, or do not belong together.

    Example:
        >>> from ldip_jax import load_pretrained
        >>> model, params = load_pretrained("basicvsr-reds4", lrrf="none")
        >>> sorted(params)
        ['backbone']
    """
    scale = real_number("scale", scale, 1.0, 8.0)
    if lrrf == "default" and scale != 4:
        shipped = shipped_export(str(backbone), "as")
        if shipped is None:
            raise InputError(f"scale {scale:g}: no arbitrary-scale weights are shipped for {backbone}; use 4")
        lrrf = shipped
    model = load_model(backbone, lrrf, native=scale == 4, flow=flow)
    if scale != 4 and not model.arbitrary:
        raise InputError(f"{lrrf}: for x4 only; scale {scale:g} needs weights with an arbitrary-scale head")
    return model.net, jax.device_put(model.params)


def match_references(
    model: LDIP,
    params: dict[str, Any],
    frames: Frames,
    images: Sequence[Image],
    key_frames: Sequence[int],
    *,
    grid: Grid | None = None,
    matcher: str | Path = "gmflow",
    ref_threshold: float = 0.05,
    refs_as_given: bool = False,
) -> KeyFrames:
    """Match reference images with the key-frames of one short clip, as an input of `LDIP`.

    `upscale` and `Upscaler` do more: they move blurred key-frames, and carry detail further on damaged clips.

    Args:
        model, params: see `load_pretrained`.
        frames: LR frames, RGB in [0, 1], uint8 or uint16; sides are multiples of the backbone's `shrink`.
        images: reference images, `h w 3` each, of any size.
        key_frames: places of the key-frames in the clip, counted from 0.
        grid: the HR grid of the arbitrary-scale head (`ops.grid.whole_grid`); None for the backbone's x4.
        matcher: "gmflow", "flow", or a folder of matches.
        ref_threshold: a reference is used if at least this fraction of the key-frame's pixels matches with
            confidence above 0.5.
        refs_as_given: see `ldip_jax.upscale`.

    Returns:
        `KeyFrames` of a batch of one clip. Each key-frame has the references that it uses, best first, then
        empty slots; if no image matches any key-frame, there is one empty slot for each.

    Raises:
        InputError: an argument cannot be used, or the matcher cannot be loaded.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from ldip_jax import load_pretrained, match_references
        >>> model, params = load_pretrained("basicvsr-reds4")
        >>> still = np.random.default_rng(0).uniform(size=(64, 64, 3))
        >>> frames = still.reshape(1, 16, 4, 16, 4, 3).mean((2, 4))
        >>> keys = match_references(model, params, frames, [still], key_frames=[0], matcher="flow")
        >>> keys.references.warp.shape  # b k n H W 2
        (1, 1, 1, 64, 64, 2)
        >>> jax.jit(model.apply)({"params": params}, jnp.asarray(frames, jnp.float32)[None], keys).shape
        (1, 1, 64, 64, 3)
    """
    frames = as_float(frames, "frames", 4)
    stills = as_stills(images)
    keys = [whole_number("key_frames", key, 0) for key in key_frames]
    if not keys or max(keys) >= len(frames):
        raise InputError(f"key_frames {list(key_frames)}: give places from 0 to {len(frames) - 1}")
    shrink = model.backbone.shrink
    if frames.shape[1] % shrink or frames.shape[2] % shrink:
        raise InputError(f"frames: {frames.shape[2]}x{frames.shape[1]}; sides must be multiples of {shrink}")
    window = WindowFeatures(Programs(model, params), list(frames), lambda _: None, grid)
    rules = ReferenceRules(0, 0, real_number("ref_threshold", ref_threshold, 0.0, 1.0), refs_as_given)
    finder = ReferenceFinder(make_matcher(model, params, matcher), rules)
    clip = WindowFrames(0, window.frames, window.image)
    _, *size, _ = window.image(keys[0]).shape
    scale = (size[0] / frames.shape[1], size[1] / frames.shape[2])
    found = [finder.match_stills(clip, key, stills, scale, lambda _: None)[0] for key in keys]
    return KeyFrames(jnp.asarray([keys]), jnp.ones((1, len(keys))), _stacked(found, (size[0], size[1])))


def _stacked(found: list[list[Reference]], size: tuple[int, int]) -> Reference:
    """The references of all key-frames on canvases of one size, with axes `1 k n`."""
    references = [reference for at_key in found for reference in at_key]
    slots = max(1, *(len(at_key) for at_key in found))
    height = max((reference.image.shape[1] for reference in references), default=1)
    width = max((reference.image.shape[2] for reference in references), default=1)
    empty = Reference(
        jnp.zeros((1, height, width, 3), jnp.float32),
        jnp.array([[height, width]], jnp.int32),
        jnp.zeros((1, *size, 2), jnp.float32),
        jnp.zeros((1, *size, 1), jnp.float32),
        jnp.zeros((1,), jnp.float32),
    )

    def on_canvas(reference: Reference) -> Reference:
        _, h, w, _ = reference.image.shape
        return reference._replace(
            image=jnp.pad(reference.image, ((0, 0), (0, height - h), (0, width - w), (0, 0)))
        )

    rows = [
        jax.tree.map(
            lambda *leaves: jnp.concatenate(leaves)[None],
            *map(on_canvas, at_key),
            *([empty] * (slots - len(at_key))),
        )
        for at_key in found
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *rows)
