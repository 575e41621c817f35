"""The folder that the demonstration leaves: replaced as a whole, and only where it is the demonstration's."""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ldip_jax.errors import InputError
from ldip_jax.media.outputs import check_output

REPORT, PICTURE, VIDEO = "report.html", "comparison.png", "upscaled.mp4"
LOW, TRUTH, STILLS = "input", "truth", "stills"

_OURS = re.compile(
    rf"(?:{re.escape(REPORT)}|{re.escape(PICTURE)}|{re.escape(VIDEO)}"
    rf"|(?:{LOW}|{TRUTH})/\d{{8}}\.png|{STILLS}/\d+_(?:before|after)\.png)"
)


def check_folder(folder: Path) -> None:
    """Find out before the work what would keep the results from being written after it.

    Raises:
        InputError: the folder holds other things, is none, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file where a folder is to be; choose another name")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"{folder}: there is no folder {folder.absolute().parent}; make it first")
    _earlier(folder)
    check_output(folder / VIDEO, overwrite=True)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder to be filled, whose content takes the place of `folder`'s when the block ends well.

    When the block raises, `KeyboardInterrupt` included, nothing of it is left and `folder` is untouched.

    Raises:
        InputError: see `check_folder`; no space.
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
    """Files of an earlier demonstration; an InputError where there are others."""
    files = [path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
    for path in files:
        if not _OURS.fullmatch(path.relative_to(folder).as_posix()):
            raise InputError(
                f"{folder}: holds {path.relative_to(folder)}, which is not of the demonstration; choose a new"
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
