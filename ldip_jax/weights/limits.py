"""How far a file from anywhere is trusted: in memory, and in what of it is shown to the user."""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ldip_jax.errors import InputError

_DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


MARGIN = 256 << 20


class Room:
    """The memory that reading a file of `size` bytes may take: what it can need in earnest, with a margin."""

    def __init__(self, size: int):
        self.left = 8 * size + MARGIN

    def spend(self, amount: int) -> None:
        """Take `amount` bytes.

        Raises:
            ValueError: so much is not left.
        """
        self.left -= amount
        if self.left < 0:
            raise ValueError("it claims to hold far more than its size allows")


def printable(text: str, limit: int = 120) -> str:
    """The beginning of `text`, safe to print: on one line, without what a terminal would obey."""
    text = text[:limit]
    return text if text.isprintable() else ascii(text)[1:-1]


@contextmanager
def damage_named(what: object) -> Iterator[None]:
    """Any way in which reading malformed bytes can fail, as an `InputError` about the file `what`."""
    try:
        yield
    except InputError:
        raise
    except _DAMAGE as error:
        reason = printable(f"{error}".partition("\n")[0]) or type(error).__name__
        raise InputError(f"{what}: damaged ({reason}); get the file again") from None


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive whose members, all of them together, unpack to no more than its size allows.

    Raises:
        ValueError, zipfile.BadZipFile: they claim to be more, are packed in a rare way, or it is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        Room(path.stat().st_size).spend(sum(member.file_size for member in members))
        if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
            raise ValueError("packed in a way that is not read here")
        yield archive
