"""The demonstration's results as files."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ldip_jax.demo import folder
from ldip_jax.demo.material import Material, frame_name
from ldip_jax.demo.methods import Result
from ldip_jax.media.color import as_float
from ldip_jax.media.images import write_png
from ldip_jax.media.writer import open_writer
from ldip_jax.report.choice import choose_crops
from ldip_jax.report.comparison import write_comparison
from ldip_jax.report.content import Method
from ldip_jax.report.page import write_report

TITLE = "LDIP: a clip upscaled by 4, with and without references"


def best(results: Sequence[Result]) -> Method:
    """The method with images and the highest PSNR."""
    return max((r.method for r in results if len(r.method.images)), key=lambda method: method.psnr_y or 0.0)


def write_results(
    target: Path,
    material: Material,
    results: Sequence[Result],
    *,
    fps: Fraction | None,
    settings: Sequence[tuple[str, str]],
    notes: Sequence[str],
) -> None:
    """Report, picture, video of the best method, and the images that were worked on.

    Raises:
        InputError: the folder cannot be written or holds other things.
    """
    methods = [*(result.method for result in results), Method("Original", material.truth)]
    middle = len(material.truth) // 2
    # Where bicubic fails is of no interest: the details are those which the others see differently.
    crops = choose_crops([method.images[middle] for method in methods[1:] if len(method.images)], middle)
    with folder.replacing(target) as part:
        write_report(
            part / folder.REPORT,
            title=TITLE,
            frame_names=[frame_name(place) for place in range(len(material.truth))],
            methods=methods,
            settings=settings,
            crops=crops,
            key_frames=[key for result in results for key in result.key_frames],
            notes=notes,
        )
        write_comparison(part / folder.PICTURE, methods, crops)
        _write_clip(part / folder.VIDEO, best(results).images, fps)
        _write_clip(part / folder.LOW, material.low)
        _write_clip(part / folder.TRUTH, material.truth)
        (part / folder.STILLS).mkdir()
        for name, image in material.stills.items():
            write_png(part / folder.STILLS / f"{name.replace(' frames ', '_')}.png", as_float(image), 8)


def _write_clip(
    path: Path, images: Iterable[UInt8[np.ndarray, "h w 3"]], fps: Fraction | None = None
) -> None:
    images = list(images)
    height, width = images[0].shape[:2]
    with open_writer(path, height=height, width=width, fps=fps) as writer:
        for image in images:
            writer.write(as_float(image))
