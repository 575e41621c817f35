"""Writes the demonstration's results to files."""

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ldip_jax.demo.material import Material, frame_name
from ldip_jax.demo.methods import DemoRow
from ldip_jax.errors import InputError
from ldip_jax.media.color import as_float
from ldip_jax.media.images import write_png
from ldip_jax.media.outputs import check_output, check_parent
from ldip_jax.media.writer import open_writer
from ldip_jax.report.comparison import choose_crops, write_comparison
from ldip_jax.report.content import Method
from ldip_jax.report.page import write_report

REPORT, PICTURE, VIDEO = "report.html", "comparison.png", "upscaled.mp4"
LOW, TRUTH, STILLS = "input", "truth", "stills"

_OURS = re.compile(
    rf"(?:{re.escape(REPORT)}|{re.escape(PICTURE)}|{re.escape(VIDEO)}"
    rf"|(?:{LOW}|{TRUTH})/\d{{8}}\.png|{STILLS}/\d+_(?:before|after)\.png)"
)


def check_folder(folder: Path) -> None:
    """Check before the work that the results can be written after it.

    Raises:
        InputError: the folder holds other files, is not a folder, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, not a folder; choose another name")
    check_parent(folder.absolute(), str(folder))
    _earlier(folder)
    check_output(folder / VIDEO, overwrite=True)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder to fill; its content replaces that of `folder` when the block ends.

    If the block raises, `KeyboardInterrupt` included, the new folder is removed and `folder` is unchanged.

    Raises:
        InputError: see `check_folder`; or the disk is full.
    """
    check_folder(folder)
    folder = folder.absolute()
    part = folder.parent / f".{secrets.token_hex(8)}.part"
    try:
        part.mkdir()
        yield part
        _move(part, folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error})") from error
    except InputError as error:
        raise InputError(str(error).replace(str(part), str(folder))) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _earlier(folder: Path) -> list[Path]:
    """Files of an earlier demonstration; raises InputError if there are others."""
    files = [path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
    for path in files:
        if not _OURS.fullmatch(path.relative_to(folder).as_posix()):
            raise InputError(
                f"{folder}: holds {path.relative_to(folder)}, which is not from a demonstration; choose a new"
                " or empty folder (--output)"
            )
    return files


def _move(part: Path, folder: Path) -> None:
    if not folder.exists():
        os.rename(part, folder)
        return
    new = {path.relative_to(part) for path in part.rglob("*") if path.is_file()}
    for path in _earlier(folder):
        if path.relative_to(folder) not in new:
            path.unlink()
    for path in sorted(new):
        (folder / path).parent.mkdir(exist_ok=True)
        os.replace(part / path, folder / path)


TITLE = "LDIP: a clip upscaled by 4, with and without references"


def best_method(results: Sequence[DemoRow]) -> Method:
    """The method with images and the highest PSNR."""
    return max((r.method for r in results if len(r.method.images)), key=lambda method: method.psnr_y or 0.0)


def write_results(
    target: Path,
    material: Material,
    results: Sequence[DemoRow],
    *,
    fps: Fraction | None,
    settings: Sequence[tuple[str, str]],
    notes: Sequence[str],
) -> None:
    """Write the report, the picture, the video of the best method, and the images of the material.

    Raises:
        InputError: the folder cannot be written or holds other files.
    """
    methods = [*(result.method for result in results), Method("Original", material.truth)]
    middle = len(material.truth) // 2
    # Details are chosen where the other methods differ; bicubic's failures are not of interest.
    crops = choose_crops([method.images[middle] for method in methods[1:] if len(method.images)], middle)
    with replacing(target) as part:
        write_report(
            part / REPORT,
            title=TITLE,
            frame_names=[frame_name(place) for place in range(len(material.truth))],
            methods=methods,
            settings=settings,
            crops=crops,
            key_frames=[key for result in results for key in result.key_frames],
            notes=notes,
        )
        write_comparison(part / PICTURE, methods, crops)
        _write_clip(part / VIDEO, best_method(results).images, fps)
        _write_clip(part / LOW, material.low)
        _write_clip(part / TRUTH, material.truth)
        (part / STILLS).mkdir()
        for name, image in material.stills.items():
            write_png(part / STILLS / f"{name.replace(' frames ', '_')}.png", as_float(image), 8)


def _write_clip(
    path: Path, images: Iterable[UInt8[np.ndarray, "h w 3"]], fps: Fraction | None = None
) -> None:
    images = list(images)
    height, width = images[0].shape[:2]
    with open_writer(path, height=height, width=width, fps=fps) as writer:
        for image in images:
            writer.write(as_float(image))
