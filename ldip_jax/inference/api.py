"""`Upscaler` and `upscale`: `ldip upscale` for arrays; and `make_upscaler`, which the command uses too."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ldip_jax.errors import InputError
from ldip_jax.inference.arguments import (
    Frames,
    Image,
    Mask,
    as_cuts,
    as_float,
    as_memory,
    as_softening,
    as_stills,
    check_names,
    output_shape,
    real_number,
    whole_number,
)
from ldip_jax.inference.model import Model, load_model, native_scale, output_size, restoring_names
from ldip_jax.inference.references import ReferenceChoice, ReferenceRules
from ldip_jax.inference.seekable import SeekableFrames
from ldip_jax.inference.upscaler import Upscaler as ClipUpscaler
from ldip_jax.matching.loading import check_matcher
from ldip_jax.weights.export import is_shipped

Models = dict[tuple[str, bool, bool], Model]
"""Loaded models: by the backbone, whether the output is as large as its own, and whether there are stills."""


class Upscaler:
    """Upscales clips held as arrays. Weights are loaded once, and programs compiled once for each frame size.

    Messages that the command would print, for example that LRRF is left out, go to the logger "ldip_jax".

    Example:
        >>> import numpy as np
        >>> from ldip_jax import Upscaler
        >>> upscaler = Upscaler(backbone="basicvsr-reds4", lrrf="none")
        >>> upscaler(np.zeros((2, 16, 20, 3), np.uint8)).shape
        (2, 64, 80, 3)

    Attributes:
        choices: what the last call decided on each candidate reference, by key-frame.
    """

    def __init__(
        self,
        backbone: str | Path = "basicvsr-reds4",
        lrrf: str | Path = "default",
        *,
        scale: float | None = None,
        size: Sequence[int] | np.ndarray | None = None,
        key_stride: int = 8,
        self_refs: int | None = None,
        exclude: int = 5,
        ref_threshold: float = 0.05,
        refs_as_given: bool = False,
        matcher: str | Path = "gmflow",
        flow: str | Path | None = None,
        propagation: str | None = None,
        cuts: str | Sequence[int] = "auto",
        memory: str | int | None = None,
        restore: str | Path | None = None,
        soften: str | float = "auto",
    ):
        """
        Args:
            (see `ldip_jax.upscale`)

        Raises:
            InputError: an argument cannot be used. Weights are loaded at the first call.
        """
        names = {"backbone": backbone, "lrrf": lrrf, "matcher": matcher}
        optional = {"flow": flow, "restore": restore}
        check_names(names | {name: value for name, value in optional.items() if value is not None})
        check_matcher(matcher)
        if self_refs is not None:
            self_refs = whole_number("self_refs", self_refs, 0)
        rules = ReferenceRules(
            self_refs,
            whole_number("exclude", exclude, 0),
            real_number("ref_threshold", ref_threshold, 0.0, 1.0),
            bool(refs_as_given),
        )
        self._backbone, self._lrrf, self._flow = backbone, lrrf, flow
        self._scale, self._size = output_shape(scale, size)
        self._options: dict[str, Any] = {
            "key_stride": whole_number("key_stride", key_stride, 1),
            "rules": rules,
            "matcher": matcher,
            "propagation": propagation,
            "cuts": as_cuts(cuts),
            "memory": as_memory(memory),
            "restore": restore,
            "soften": as_softening(soften),
        }
        self._models: Models = {}
        self._upscalers: dict[tuple[tuple[int, int], bool], ClipUpscaler] = {}
        self.choices: dict[int, list[ReferenceChoice]] = {}

    def __call__(
        self,
        frames: Frames,
        refs: Sequence[Image] = (),
        *,
        ref_frames: Sequence[int | None] | None = None,
        ref_masks: Sequence[Mask | None] | None = None,
    ) -> Float[np.ndarray, "t H W 3"]:
        """Upscale a clip; see `ldip_jax.upscale`."""
        frames = as_float(frames, "frames", 4)
        stills = as_stills(refs, ref_frames, ref_masks)
        upscaler = self._upscaler_for(frames.shape[1:3], bool(stills))
        upscaler.check(len(frames), stills)
        upscaled = np.stack(list(upscaler.frames(frames, stills)))
        self.choices = dict(upscaler.choices)
        log = logging.getLogger("ldip_jax")
        if upscaler.softening and self._options["soften"] is None:
            log.warning(softening_note(upscaler))
        if upscaler.backbone_only_frames:
            log.warning(backbone_only_note(upscaler, len(upscaled)))
        return upscaled

    def seekable(
        self,
        read: Callable[[int], Float[np.ndarray, "h w 3"]],
        count: int,
        frame_size: tuple[int, int],
        refs: Sequence[Image] = (),
        *,
        ref_frames: Sequence[int | None] | None = None,
        ref_masks: Sequence[Mask | None] | None = None,
        kept: int = 64,
    ) -> SeekableFrames:
        """A clip whose frames are read and upscaled when they are asked for, in any order.

        Args:
            read: gives a frame, float32 `h w 3` RGB in [0, 1], by its number from 0 to `count` - 1.
            count: frames of the clip.
            frame_size: (height, width) of its frames.
            refs, ref_frames, ref_masks: see `ldip_jax.upscale`.
            kept: how many upscaled frames are kept in memory.

        Raises:
            InputError: see `ldip_jax.upscale`.
        """
        count = whole_number("count", count, 1)
        stills = as_stills(refs, ref_frames, ref_masks)
        # One of its own: reading moves the shots that an upscaler knows.
        upscaler = self._make_upscaler(frame_size, bool(stills))
        upscaler.check(count, stills)
        return SeekableFrames(upscaler, read, count, stills, whole_number("kept", kept, 2))

    def _upscaler_for(self, frame_size: tuple[int, int], has_stills: bool) -> ClipUpscaler:
        """The upscaler for frames of this size, with or without reference images."""
        if (frame_size, has_stills) not in self._upscalers:
            self._upscalers[frame_size, has_stills] = self._make_upscaler(frame_size, has_stills)
        return self._upscalers[frame_size, has_stills]

    def _make_upscaler(self, frame_size: tuple[int, int], has_stills: bool) -> ClipUpscaler:
        upscaler = make_upscaler(
            frame_size,
            scale=self._scale,
            size=self._size,
            backbone=self._backbone,
            lrrf=self._lrrf,
            has_stills=has_stills,
            flow=self._flow,
            models=self._models,
            **self._options,
        )
        for note in upscaler.notes:
            logging.getLogger("ldip_jax").warning(note)
        return upscaler


def upscale(
    frames: Frames,
    *,
    scale: float | None = None,
    size: Sequence[int] | np.ndarray | None = None,
    refs: Sequence[Image] = (),
    backbone: str | Path = "basicvsr-reds4",
    lrrf: str | Path = "default",
    key_stride: int = 8,
    self_refs: int | None = None,
    exclude: int = 5,
    ref_threshold: float = 0.05,
    refs_as_given: bool = False,
    ref_frames: Sequence[int | None] | None = None,
    ref_masks: Sequence[Mask | None] | None = None,
    matcher: str | Path = "gmflow",
    flow: str | Path | None = None,
    propagation: str | None = None,
    cuts: str | Sequence[int] = "auto",
    memory: str | int | None = None,
    restore: str | Path | None = None,
    soften: str | float = "auto",
) -> Float[np.ndarray, "t H W 3"]:
    """Upscale a clip. For several clips, keep an `Upscaler`.

    Messages that the command would print, for example that LRRF is left out, go to the logger "ldip_jax".

    Args:
        frames: `t h w 3` RGB, floats in [0, 1], uint8 or uint16; any size and length.
        scale: 1 to 8. The output is round(h scale) x round(w scale). Default: the backbone's own scale, 4, or
            1 if it only restores.
        size: (height, width) of the output, instead of `scale`.
        refs: reference images of the scene, `h w 3` each, of any size. Of more than four, those that look
            most like a key-frame are matched with it.
        backbone: name (see `ldip weights list`) or file of the backbone's weights; fetched if necessary.
        lrrf: "default": the weights shipped for the backbone; without `refs`, only if they also gain from the
            clip's own frames. "none": only the backbone. Otherwise, the name of shipped weights, or a file.
        key_stride: frames from one key-frame to the next.
        self_refs: references per key-frame; places that `refs` leave free are filled with the clip's own
            frames. None: 5 own frames if none of `refs` matches, otherwise no own frames.
        exclude: frames up to this far from a key-frame are not references for it.
        ref_threshold: a reference is used if at least this fraction of the key-frame's pixels matches with
            confidence above 0.5.
        refs_as_given: do not calibrate `refs` (exposure, gamma, white balance) to the frames, and do not
            leave out those that are no sharper than the upscaled frame or have nothing in common with it.
        ref_frames: for each of `refs`, the frame that it belongs to, counted from 0, or None. That frame
            becomes a key-frame, and the reference is used for the key-frames of its shot up to the next
            reference that belongs to a frame.
        ref_masks: for each of `refs`, an array of its height and width: 1 (or 255, 65535, True) where the
            reference may be used, 0 elsewhere. None: it may be used everywhere.
        matcher: "gmflow"; "flow", which is cheap and for small motion; or a folder of matches.
        flow: the optical flow that LRRF and the matcher "flow" follow. "spynet": the backbone's own.
            Otherwise, name or file of weights of SPyNet, RAFT or GMFlow. None: the one that LRRF was trained
            with.
        propagation: how detail gets from key-frames to the other frames. "carry": warped once from the
            key-frames on either side; "hrip": from frame to frame, as in the paper; "both": carry, then HRIP.
            None: the one that LRRF was trained for.
        cuts: first frames of new shots, counted from 0; "auto" to detect them; "none" for a single shot.
            Detail never crosses a cut.
        memory: limit of memory, such as "8G", or bytes: on a CPU for the whole process without the frames of
            the result, on a GPU for the device. Large frames are then cut into tiles, and intermediate
            results are kept in a temporary file. None: three quarters of what is free.
        restore: a network that restores the frames first, at the same size: name or file of its weights, such
            as "basicvsrpp-ntire-decompress1" for compressed clips. None: the frames are used as they are.
        soften: blur of the frames before they are upscaled, as a standard deviation in pixels, for clips that
            are sharper than what the backbone was trained on, such as clips reduced by averaging. "auto":
            found out from the first frames; "none": no blur.

    Returns:
        `t H W 3` float32 RGB in [0, 1].

    Example:
        >>> import numpy as np
        >>> import ldip_jax
        >>> ldip_jax.upscale(np.zeros((2, 16, 20, 3)), scale=2.5, lrrf="none").shape
        (2, 40, 50, 3)

    Raises:
        InputError: an argument, a file or an array cannot be used.
    """
    upscaler = Upscaler(
        backbone,
        lrrf,
        scale=scale,
        size=size,
        key_stride=key_stride,
        self_refs=self_refs,
        exclude=exclude,
        ref_threshold=ref_threshold,
        refs_as_given=refs_as_given,
        matcher=matcher,
        flow=flow,
        propagation=propagation,
        cuts=cuts,
        memory=memory,
        restore=restore,
        soften=soften,
    )
    return upscaler(frames, refs, ref_frames=ref_frames, ref_masks=ref_masks)


def backbone_only_note(upscaler: ClipUpscaler, count: int) -> str:
    """The message that only the backbone made some of the `count` frames, because no still matched there."""
    return (
        f"{upscaler.backbone_only_frames} of {count} frames lie in shots where no still matches: only the"
        " backbone made these, because the weights of LRRF gain only from stills"
    )


def softening_note(upscaler: ClipUpscaler) -> str:
    """The message that frames were blurred, because the clip is unlike what the backbone was trained on."""
    return (
        f"the frames are sharper than those that {upscaler.model.backbone.name} was trained on, so they were"
        f" softened by {upscaler.softening:g} pixels first"
    )


def make_upscaler(
    frame_size: tuple[int, int],
    *,
    scale: float | None,
    size: tuple[int, int] | None,
    backbone: str | Path,
    lrrf: str | Path,
    has_stills: bool = True,
    key_stride: int,
    rules: ReferenceRules,
    matcher: str | Path,
    flow: str | Path | None = None,
    propagation: str | None = None,
    cuts: str | tuple[int, ...] = "auto",
    remember: bool = False,
    models: Models | None = None,
    memory: int | None = None,
    restore: str | Path | None = None,
    soften: float | None = None,
    progress: Callable[[str], object] = print,
) -> ClipUpscaler:
    """An upscaler for frames of `frame_size` (height, width); other arguments as for `upscale`.

    Args:
        has_stills: whether there will be stills; see `load_model`.
        remember: keep all matches for another run over the same clip.
        models: keeps the loaded models for further calls with the same weights.
        memory: bytes of memory to keep to; None: what is free, less a margin.
        restore: name or file of weights of a network that restores the frames first.
        soften: see `ClipUpscaler`.
        progress: receives lines of text while weights are fetched.

    Raises:
        InputError: see `upscale`.
    """
    if key_stride < 1:
        raise InputError(f"key stride {key_stride}: it must be at least 1")
    rules.check()
    check_matcher(matcher)
    own_scale = native_scale(backbone)
    out = output_size(frame_size, scale, size, own_scale)
    native = out == (frame_size[0] * own_scale, frame_size[1] * own_scale)
    models = {} if models is None else models
    if restore is not None and native_scale(restore) != 1:
        names = ", ".join(restoring_names())
        raise InputError(f"restore {restore}: not a network that restores at the same size, such as {names}")
    key = str(backbone), native, has_stills
    if key not in models:
        model = load_model(backbone, lrrf, native=native, has_stills=has_stills, flow=flow, progress=progress)
        if has_stills and not model.refined:
            model.notes.append("the reference images are ignored, because only LRRF uses them")
        models[key] = model
    model = models[key]
    restorer = None
    if restore is not None:
        key = str(restore), True, False
        if key not in models:
            models[key] = load_model(restore, "none", native=True, progress=progress)
        restorer = ClipUpscaler(models[key], frame_size, frame_size, memory=memory)
    return ClipUpscaler(
        model,
        frame_size,
        out,
        key_stride=key_stride,
        rules=rules,
        matcher=matcher,
        propagation=propagation,
        cuts=cuts,
        backbone_only_if_unmatched=is_shipped(lrrf)
        and model.export is not None
        and model.export.gains_only_from_stills,
        remember=remember,
        memory=memory,
        restorer=restorer,
        soften=soften,
        progress=progress,
    )
