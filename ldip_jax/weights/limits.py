"""Limits for reading untrusted checkpoints, above all of memory; any damage becomes an `InputError`."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ldip_jax.errors import InputError
from ldip_jax.untrusted import reason

MARGIN = 256 << 20


class ReadBudget:
    """The memory that reading a file of `size` bytes may take: what it can really need, plus a margin."""

    def __init__(self, size: int):
        self.left = 8 * size + MARGIN

    def spend(self, amount: int) -> None:
        """Take `amount` bytes.

        Raises:
            ValueError: not enough is left.
        """
        self.left -= amount
        if self.left < 0:
            raise ValueError("it claims to hold far more than its size allows")


@contextmanager
def reporting_damage(what: object) -> Iterator[None]:
    """Turn any failure to read malformed bytes into an `InputError` about the file `what`."""
    try:
        yield
    except (InputError, OSError):
        raise
    except Exception as error:
        raise InputError(f"{what}: damaged ({reason(error)}); get the file again") from None


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive whose members together unpack to no more than its size allows.

    Raises:
        ValueError, zipfile.BadZipFile: its members claim to be larger or are packed in an unsupported way,
            or the file is not an archive.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        ReadBudget(path.stat().st_size).spend(sum(member.file_size for member in members))
        if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
            raise ValueError("compressed in a way that is not supported")
        yield archive
