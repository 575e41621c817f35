"""`ldip_jax.upscale`: the command `ldip upscale` for arrays."""

import logging
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Float, UInt8, UInt16

from ldip_jax.errors import InputError
from ldip_jax.inference.model import load_model, native_scale, output_size
from ldip_jax.inference.references import Rules, Still
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.matching.choice import check_matcher

Frames = Float[np.ndarray, "t h w 3"] | UInt8[np.ndarray, "t h w 3"] | UInt16[np.ndarray, "t h w 3"]
# Of any size, and of another one each: no axis has a name.
Image = Float[np.ndarray, "_ _ 3"] | UInt8[np.ndarray, "_ _ 3"] | UInt16[np.ndarray, "_ _ 3"]


def as_float(images: np.ndarray | Sequence, what: str, ndim: int) -> np.ndarray:
    """RGB as float32 in [0, 1]; integers by their type's range.

    Raises:
        InputError: another shape, type or range.
    """
    try:
        images = np.asarray(images)
    except ValueError:
        raise InputError(f"{what}: images of several sizes; RGB of one size is needed") from None
    if images.ndim != ndim or images.shape[-1] != 3 or 0 in images.shape:
        axes = "t h w 3" if ndim == 4 else "h w 3"
        raise InputError(f"{what}: an array of shape {images.shape}; RGB of shape ({axes}) is needed")
    if images.dtype in (np.uint8, np.uint16):
        return images.astype(np.float32) / np.iinfo(images.dtype).max
    if not np.issubdtype(images.dtype, np.floating):
        raise InputError(f"{what}: an array of {images.dtype}; give uint8, uint16 or floats in [0, 1]")
    if not (np.min(images) >= 0.0 and np.max(images) <= 1.0):
        raise InputError(f"{what}: values outside of [0, 1], or not numbers; scale or clip them first")
    return images.astype(np.float32)


def upscale(
    frames: Frames,
    *,
    scale: float | None = None,
    size: Sequence[int] | np.ndarray | None = None,
    refs: Sequence[Image] = (),
    backbone: str | Path = "basicvsr-reds4",
    lrrf: str | Path = "default",
    key_stride: int = 8,
    self_refs: int = 5,
    exclude: int = 5,
    ref_threshold: float = 0.05,
    matcher: str | Path = "gmflow",
    flow: str | Path | None = None,
) -> Float[np.ndarray, "t H W 3"]:
    """Upscale a clip.

    What the command would say on the way, such as that LRRF is left out, goes to the logger "ldip_jax".

    Args:
        frames: `t h w 3` RGB, floats in [0, 1], uint8 or uint16; any size and length.
        scale: 1 to 8, by default the backbone's own, which is 4, or 1 if it only restores; the output is
            round(h scale) x round(w scale).
        size: the output's (height, width) instead.
        refs: reference images of the scene, `h w 3` each, of any size.
        backbone: name (see `ldip weights list`) or file of the backbone's weights; fetched if need be.
        lrrf: "default" for the weights shipped for that backbone, without `refs` only if they gain from the
            clip's own frames too; "none" for the backbone alone; the name of shipped ones; or a file.
        key_stride: frames from one key-frame to the next.
        self_refs: references per key-frame; what `refs` leave free is taken from the clip's own frames.
        exclude: the clip's frames this near to a key-frame are no references for it.
        ref_threshold: a reference takes part where at least this share of the pixels is surely matched.
        matcher: "gmflow", "flow" (cheap, small motion), or a folder of matches.
        flow: optical flow that LRRF, and the matcher "flow", follow: "spynet" for the backbone's own; or name
            or file of the weights of SPyNet, RAFT or GMFlow; None for the one that LRRF was trained with.

    Returns:
        `t H W 3` float32 RGB in [0, 1].

    Raises:
        InputError: an argument, file or array that cannot be used.
    """
    out = checked(scale, size, refs, {"backbone": backbone, "lrrf": lrrf, "matcher": matcher})
    frames = as_float(frames, "frames", 4)
    stills = [Still(f"ref{i}", as_float(ref, f"refs[{i}]", 3)) for i, ref in enumerate(refs)]
    upscaler = make_upscaler(
        frames.shape[1:3],
        scale=scale,
        size=out,
        backbone=backbone,
        lrrf=lrrf,
        stills=bool(stills),
        key_stride=key_stride,
        rules=Rules(self_refs, exclude, ref_threshold),
        matcher=matcher,
        flow=flow,
    )
    log = logging.getLogger("ldip_jax")
    for note in upscaler.notes:
        log.warning(note)
    upscaler.check(len(frames), stills)
    made = np.stack(list(upscaler.frames(frames, stills)))
    if upscaler.spared:
        log.warning(spared_note(upscaler, len(made)))
    return made


def checked(scale: object, size: object, refs: object, names: Mapping[str, object]) -> tuple[int, int] | None:
    """The size as two whole numbers, or None, where everything is of the type that it should be.

    Raises:
        InputError: something is not.
    """
    if scale is not None and size is not None:
        raise InputError("give scale or size, not both")
    if scale is not None and not isinstance(scale, int | float | np.integer | np.floating):
        raise InputError(f"scale {scale!r}: give one number, or size for another shape")
    if not isinstance(refs, Sequence | np.ndarray):
        raise InputError(f"refs: {type(refs).__name__}; give a list of images")
    for name, value in names.items():
        if not isinstance(value, str | Path):
            raise InputError(f"{name} {value!r}: give a name or a path")
    if size is None:
        return None
    try:
        height, width = map(operator.index, cast(Iterable[int], size))
    except (TypeError, ValueError):
        raise InputError(f"size {size!r}: give (height, width), two whole numbers") from None
    return height, width


def spared_note(upscaler: Upscaler, count: int) -> str:
    """What to say where the backbone made frames alone, of `count` in all, since no still took part."""
    return (
        f"{upscaler.spared} of {count} frames lie where no still matches: the backbone made these alone,"
        " since the weights of LRRF gain from stills alone"
    )


def make_upscaler(
    frame_size: tuple[int, int],
    *,
    scale: float | None,
    size: tuple[int, int] | None,
    backbone: str | Path,
    lrrf: str | Path,
    stills: bool = True,
    key_stride: int,
    rules: Rules,
    matcher: str | Path,
    flow: str | Path | None = None,
    remember: bool = False,
    progress: Callable[[str], object] = print,
) -> Upscaler:
    """An `Upscaler` for frames of `frame_size` (height, width); arguments as of `upscale`.

    Args:
        stills: whether reference stills will come; see `load_model`.
        remember: keep all matches for another run over the same clip.
        progress: receives lines of text while weights are fetched.

    Raises:
        InputError: see `upscale`.
    """
    if key_stride < 1:
        raise InputError(f"key stride {key_stride}: it must be at least 1")
    rules.check()
    check_matcher(matcher)
    own = native_scale(backbone)
    out = output_size(frame_size, scale, size, own)
    native = out == (frame_size[0] * own, frame_size[1] * own)
    model = load_model(backbone, lrrf, native=native, stills=stills, flow=flow, progress=progress)
    if stills and not model.refined:
        model.notes.append(f"reference stills are left out: {model.title} has no use for them")
    return Upscaler(
        model,
        frame_size,
        out,
        key_stride=key_stride,
        rules=rules,
        matcher=matcher,
        spare=lrrf == "default" and model.export is not None and model.export.wants_stills,
        remember=remember,
        progress=progress,
    )
