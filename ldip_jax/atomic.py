"""Files that appear whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ldip_jax.errors import InputError


@contextmanager
def atomic_open(path: str | Path) -> Iterator[BinaryIO]:
    """Open `path` for binary writing; it gets the new content only once all of that is on disk.

    The bytes go to a temporary file in the same folder, which replaces `path` when the block ends. If the
    block raises, `KeyboardInterrupt` included, the temporary file is removed and `path` is unchanged.
    A link stays one: the file that it points to is replaced.

    Raises:
        InputError: `path` cannot be written: no such folder, no permission, disk full, or it is a folder.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    part = target.parent / f".{secrets.token_hex(8)}.part"
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be written ({reason}); choose another place") from error
    finally:
        with suppress(OSError):
            part.unlink()
