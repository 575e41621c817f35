"""Checks the arguments of `ldip_jax.upscale` and `ldip_jax.Upscaler`."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import SupportsIndex, cast

import numpy as np
from jaxtyping import Bool, Float, UInt8, UInt16

from ldip_jax.errors import InputError
from ldip_jax.inference.reference_images import Still
from ldip_jax.memory import parse_size

Frames = Float[np.ndarray, "t h w 3"] | UInt8[np.ndarray, "t h w 3"] | UInt16[np.ndarray, "t h w 3"]
# Each may have its own size, so the axes have no names.
Image = Float[np.ndarray, "_ _ 3"] | UInt8[np.ndarray, "_ _ 3"] | UInt16[np.ndarray, "_ _ 3"]
Mask = (
    Float[np.ndarray, "_ _"] | UInt8[np.ndarray, "_ _"] | UInt16[np.ndarray, "_ _"] | Bool[np.ndarray, "_ _"]
)

# Pixels; more leaves nothing to upscale.
MOST_SOFTENING = 3.0


def as_float(images: np.ndarray | Sequence, what: str, ndim: int) -> np.ndarray:
    """RGB as float32 in [0, 1]; integers are divided by the maximum of their type.

    Raises:
        InputError: a wrong shape, type or range.
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


def whole_number(name: str, value: object, minimum: int) -> int:
    """
    Raises:
        InputError: `value` is not a whole number, or below `minimum`.
    """
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(cast(SupportsIndex, value))
    except TypeError:
        number = None
    if number is None or number < minimum:
        raise InputError(f"{name} {value!r}: give a whole number, at least {minimum}")
    return number


def real_number(name: str, value: object, minimum: float, maximum: float) -> float:
    """
    Raises:
        InputError: `value` is not a number, or outside [`minimum`, `maximum`].
    """
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        number = float(cast(float, value))
        # Not a number lies nowhere.
        if minimum <= number <= maximum:
            return number
    raise InputError(f"{name} {value!r}: give a number between {minimum:g} and {maximum:g}")


def output_shape(scale: object, size: object) -> tuple[float | None, tuple[int, int] | None]:
    """The scale, and the size as (height, width); at most one of them is not None.

    Raises:
        InputError: a wrong type or value, or both are given.
    """
    if scale is not None and size is not None:
        raise InputError("give scale or size, not both")
    if scale is not None:
        return real_number("scale", scale, 1.0, 8.0), None
    if size is None:
        return None, None
    try:
        height, width = map(operator.index, cast(Iterable[int], size))
    except (TypeError, ValueError):
        raise InputError(f"size {size!r}: give (height, width), two whole numbers") from None
    return None, (height, width)


def check_names(names: Mapping[str, object]) -> None:
    """Check arguments that name weights, files or folders.

    Raises:
        InputError: one is neither a string nor a path.
    """
    for name, value in names.items():
        if not isinstance(value, str | Path):
            raise InputError(f"{name} {value!r}: give a name or a path")


def as_stills(refs: object, ref_frames: object = None, ref_masks: object = None) -> list[Still]:
    """The reference images as the pipeline takes them; the arguments are those of `ldip_jax.upscale`.

    Raises:
        InputError: a wrong type, shape or range.
    """
    if not isinstance(refs, Sequence | np.ndarray) or isinstance(refs, str):
        raise InputError(f"refs: {type(refs).__name__}; give a list of images")
    images = [as_float(ref, f"refs[{i}]", 3) for i, ref in enumerate(refs)]
    moments, masks = (
        one_per_reference("ref_frames", ref_frames, refs),
        one_per_reference("ref_masks", ref_masks, refs),
    )
    return [
        Still(f"ref{i}", image, as_moment(moments[i], i), as_mask(masks[i], i, image.shape[:2]))
        for i, image in enumerate(images)
    ]


def one_per_reference(name: str, values: object, refs: Sequence | np.ndarray) -> Sequence:
    """One value for each reference.

    Raises:
        InputError: `values` is not a list, or does not have the length of `refs`.
    """
    if values is None:
        return [None] * len(refs)
    if not isinstance(values, Sequence) or len(values) != len(refs):
        raise InputError(f"{name}: give a list with one entry for each of the {len(refs)} refs, or None")
    return values


def as_moment(value: object, number: int) -> int | None:
    """The frame that reference `number` belongs to.

    Raises:
        InputError: neither a frame, counted from 0, nor None.
    """
    return None if value is None else whole_number(f"ref_frames[{number}]", value, 0)


def as_mask(value: object, number: int, size: tuple[int, ...]) -> Float[np.ndarray, "_ _"] | None:
    """The mask of reference `number`, in [0, 1].

    Args:
        size: (height, width) of the reference.

    Raises:
        InputError: a wrong shape, type or range.
    """
    if value is None:
        return None
    mask = np.asarray(value)
    if mask.shape != size:
        raise InputError(f"ref_masks[{number}]: has shape {mask.shape}; refs[{number}] needs {size}")
    mask = mask.astype(np.uint8) * np.uint8(255) if mask.dtype == bool else mask
    return as_float(np.repeat(mask[..., None], 3, axis=-1), f"ref_masks[{number}]", 3)[..., 0]


def as_cuts(cuts: object) -> str | tuple[int, ...]:
    """`cuts` as `Upscaler` takes them: "auto", "none", or frames in ascending order.

    Raises:
        InputError: neither one of these words nor frame numbers from 1.
    """
    if isinstance(cuts, str) and cuts in ("auto", "none"):
        return cuts
    try:
        if isinstance(cuts, str):
            raise TypeError
        frames = tuple(sorted(map(operator.index, cast(Iterable[int], cuts))))
    except TypeError:
        raise InputError(f"cuts {cuts!r}: give auto, none, or frames such as [48, 120]") from None
    if frames and frames[0] < 1:
        raise InputError(f"cuts {cuts!r}: frames from 1 up; a cut is the first frame of a new shot")
    return frames


def as_softening(soften: object) -> float | None:
    """The standard deviation of the blur that softens frames, in pixels; None for "auto", 0 for "none".

    Raises:
        InputError: neither one of these words nor a number from 0 to `MOST_SOFTENING`.
    """
    if isinstance(soften, str):
        if soften in ("auto", "none"):
            return None if soften == "auto" else 0.0
        raise InputError(f"soften {soften!r}: give auto, none, or a number of pixels such as 0.5")
    return real_number("soften", soften, 0.0, MOST_SOFTENING)


def as_memory(memory: object) -> int | None:
    """Bytes of memory, or None.

    Raises:
        InputError: neither a size such as "8G", nor a positive number of bytes, nor None.
    """
    if memory is None:
        return None
    return parse_size(memory) if isinstance(memory, str) else whole_number("memory", memory, 1)
