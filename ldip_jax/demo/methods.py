"""The demonstration's methods, run and scored in turn."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from ldip_jax.demo.material import SCALE, SIZE, Material, frame_name
from ldip_jax.errors import InputError
from ldip_jax.evaluation.scores import average, score_frames
from ldip_jax.inference.api import make_upscaler
from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.references import ReferenceChoice, ReferenceRules
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.media.color import as_float, quantise
from ldip_jax.ops.imresize import imresize
from ldip_jax.progress import Progress
from ldip_jax.report.content import KeyFrame, Method, Reference
from ldip_jax.weights.export import shipped_export

BACKBONE = "basicvsr-reds4"
STILLS = (0, 2, 5)

Images = Sequence[UInt8[np.ndarray, "h w 3"]]


class DemoRow(NamedTuple):
    """A row of the table, and its key-frames with the references that were matched."""

    method: Method
    key_frames: list[KeyFrame]


def is_trained(lrrf: str) -> bool:
    """Whether `load` finds weights for LDIP with this choice."""
    return shipped_export(BACKBONE, "x4") is not None if lrrf == "default" else lrrf != "none"


class Upscalers(NamedTuple):
    """Only the backbone; and LDIP with and without stills, if there are weights for it."""

    backbone: Upscaler
    with_stills: Upscaler | None
    without_stills: Upscaler | None


def load(lrrf: str, notify: Callable[[str], object]) -> Upscalers:
    """Load the networks that make the rows.

    Args:
        lrrf: "default", "none" or a file, as for `ldip upscale`. With "default", the row without stills uses
            the weights shipped for clips without stills, if there are any.
        notify: receives lines of text while weights are fetched.

    Raises:
        InputError: the weights are not available, or are not LRRF's.
    """

    def make(lrrf: str) -> Upscaler:
        return make_upscaler(
            (SIZE[0] // SCALE, SIZE[1] // SCALE),
            scale=float(SCALE),
            size=None,
            backbone=BACKBONE,
            lrrf=lrrf,
            key_stride=8,
            rules=ReferenceRules(),
            matcher="gmflow",
            remember=True,
            progress=notify,
        )

    ldip = make(lrrf)
    if ldip.model.refined:
        self_export = shipped_export(BACKBONE, "x4-self") if lrrf == "default" else None
        return Upscalers(make("none"), ldip, make(str(self_export)) if self_export else ldip)
    if lrrf not in ("default", "none"):
        raise InputError(f"{lrrf}: contains no LRRF weights; give a file that does, or none")
    return Upscalers(ldip, None, None)


def results(material: Material, upscalers: Upscalers) -> Iterator[DemoRow]:
    """Bicubic, the backbone, and LDIP with none, two and all of the stills, each as soon as it is ready.

    Without weights for LDIP, its rows repeat the backbone's scores, because that is the result before
    training: nothing is computed for them, and they have no images.
    """
    began = time.perf_counter()
    images = [imresize(image, float(SCALE)) for image in material.low]
    yield _result("Bicubic", material, images, time.perf_counter() - began)
    name = f"{BACKBONE} only"
    backbone_row = _result(name, material, *_upscale(name, upscalers.backbone, material, []))
    yield backbone_row
    stills = [Still(name, as_float(image)) for name, image in material.stills.items()]
    for count in STILLS:
        name = f"LDIP, {count or 'no'} stills"
        ldip = upscalers.with_stills if count else upscalers.without_stills
        if ldip is None:
            scores = backbone_row.method
            yield DemoRow(Method(name, (), scores.psnr_y, scores.ssim_y, None, "untrained"), [])
            continue
        images, seconds = _upscale(name, ldip, material, stills[:count])
        yield _result(name, material, images, seconds, _key_frames(name, ldip, material, images))


def _upscale(
    name: str, upscaler: Upscaler, material: Material, stills: list[Still]
) -> tuple[list[UInt8[np.ndarray, "h w 3"]], float]:
    """The frames, and the time they took in seconds."""
    began = time.perf_counter()
    with Progress(name, upscaler.work(len(material.low), stills), upscaler.costs()) as progress:
        frames = upscaler.frames(map(as_float, material.low), stills, progress.advance)
        images = [quantise(frame, 8) for frame in frames]
    return images, time.perf_counter() - began


def _result(
    name: str, material: Material, images: Images, seconds: float, key_frames: Sequence[KeyFrame] = ()
) -> DemoRow:
    scores = average(score_frames(map(as_float, images), map(as_float, material.truth)))
    return DemoRow(Method(name, images, scores.psnr_y, scores.ssim_y, seconds), list(key_frames))


def _key_frames(name: str, ldip: Upscaler, material: Material, images: Images) -> list[KeyFrame]:
    """The last run's choice of references. The clip's own frames are references at their LR size."""
    shown = {f"frame {place}": (frame_name(place), image) for place, image in enumerate(material.low)}
    shown |= {name: (f"still, {name}", image) for name, image in material.stills.items()}

    def reference(choice: ReferenceChoice) -> Reference:
        title, image = shown[choice.name]
        return Reference(title, choice.share, choice.used, image, choice.note)

    return [
        KeyFrame(f"{name}: {frame_name(key)}", [reference(choice) for choice in choices], images[key])
        for key, choices in sorted(ldip.choices.items())
    ]
