"""LDIP as a VapourSynth function: `from ldip_jax.vapoursynth import upscale`."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ldip_jax.errors import InputError
from ldip_jax.inference.api import Upscaler
from ldip_jax.media.images import read_image

try:
    # Its stubs are made on the user's machine, for the plugins that are there.
    vs: Any = import_module("vapoursynth")
except ImportError as error:
    raise ImportError(
        "VapourSynth is not installed for this Python; install it, for Python 3.12 or newer with"
        " pip install 'ldip-jax[vapoursynth]'"
    ) from error


def upscale(
    clip: Any,
    refs: Sequence[Any] = (),
    *,
    scale: float | None = None,
    size: Sequence[int] | None = None,
    backbone: str | Path = "basicvsr-reds4",
    lrrf: str | Path = "default",
    ref_frames: Sequence[int | None] | None = None,
    kept: int = 64,
    **options: Any,
) -> Any:
    """Upscale a clip.

    Frames are made when they are requested, and are the same in whatever order that happens. Requests in
    order, as from `vspipe`, are fast. The first frame of a window of up to 240 frames takes the backbone's
    pass over the whole window. After a jump to a frame that is no longer kept, the source is read again from
    its first frame, to find cuts, and the window that holds the frame is computed again, from its first frame
    on.

    Args:
        clip: a `VideoNode` in RGBS, of constant size; values outside [0, 1] are clipped. Convert with
            `core.resize.Bicubic(clip, format=vs.RGBS, matrix_in_s="709")`.
        refs: reference images of the scene, of any size: paths of image files, clips in RGBS, of which the
            first frame is used, or arrays `h w 3`.
        scale, size, backbone, lrrf, ref_frames: see `ldip_jax.upscale`.
        kept: upscaled frames that are kept in memory; at least the number of frames requested at a time.
        options: further arguments of `ldip_jax.Upscaler`, such as `key_stride` and `cuts`.

    Returns:
        A `VideoNode` in RGBS, in [0, 1], with the frame properties, rate and length of `clip`.

    Raises:
        InputError: an argument cannot be used.
    """
    _check(clip, "clip")
    stills = [_reference_image(ref, f"refs[{number}]") for number, ref in enumerate(refs)]
    upscaler = Upscaler(backbone, lrrf, scale=scale, size=size, **options)
    made = upscaler.seekable(
        lambda number: _array(clip.get_frame(number)),
        clip.num_frames,
        (clip.height, clip.width),
        stills,
        ref_frames=ref_frames,
        kept=kept,
    )
    height, width = made.size

    def write(n: int, f: Any) -> Any:
        frame = f.copy()
        for plane in range(3):
            np.copyto(np.asarray(frame[plane]), made[n][..., plane])
        return frame

    blank = clip.std.BlankClip(width=width, height=height, keep=True).std.CopyFrameProps(clip)
    return blank.std.ModifyFrame(blank, write)


def _check(clip: Any, what: str) -> None:
    if not isinstance(clip, vs.VideoNode):
        raise InputError(f"{what}: {type(clip).__name__}; give a clip")
    if clip.format is None or clip.format.id != vs.RGBS or not clip.width or not clip.height:
        name = clip.format.name if clip.format else "variable format"
        raise InputError(f"{what}: {name}, {clip.width}x{clip.height}; convert it to RGBS of constant size")


def _array(frame: Any) -> np.ndarray:
    """A frame in RGBS as float32 `h w 3` in [0, 1]."""
    with frame:
        image = np.stack([np.asarray(frame[plane]) for plane in range(3)], axis=-1)
    if not np.isfinite(image).all():
        raise InputError("clip: a frame holds values that are not finite; correct its source")
    return np.clip(image, 0.0, 1.0)


def _reference_image(ref: Any, what: str) -> np.ndarray:
    if isinstance(ref, str | Path):
        return read_image(ref)[0]
    if isinstance(ref, np.ndarray):
        return ref
    _check(ref, what)
    return _array(ref.get_frame(0))
