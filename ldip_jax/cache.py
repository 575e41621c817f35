"""Where this package keeps downloads and compiled programs."""

import os
import sys
from pathlib import Path

from ldip_jax.errors import InputError


def cache_dir() -> Path:
    """$LDIP_CACHE, or `ldip_jax` in the user's cache folder.

    Raises:
        InputError: that depends on a home folder which the system does not know.
    """
    if folder := os.environ.get("LDIP_CACHE"):
        try:
            return Path(folder).expanduser()
        except RuntimeError:
            raise InputError(f"LDIP_CACHE={folder}: there is no such user; give a full path") from None
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "ldip_jax"
    if sys.platform == "win32" and (base := os.environ.get("LOCALAPPDATA")):
        return Path(base) / "ldip_jax" / "Cache"
    try:
        home = Path.home()
    except RuntimeError:
        raise InputError("no home folder is known; set LDIP_CACHE to a folder for weights") from None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "ldip_jax"
