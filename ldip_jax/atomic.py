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
    """Open `path` for binary writing; its name holds the new content only once all of it is on disk.

    The bytes go to a temporary file in the same folder, which replaces `path` when the block ends and is
    removed when the block raises, `KeyboardInterrupt` included: whatever `path` held before is then intact.

    Raises:
        InputError: `path` cannot be written: no such folder, no permission, disk full, or a folder itself.
    """
    path = Path(path)
    part = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be written ({reason}); choose another place") from error
    finally:
        with suppress(OSError):
            part.unlink()
