"""Where this package keeps what it fetches and compiles."""

import os
import sys
from pathlib import Path


def cache_dir() -> Path:
    """$LDIP_CACHE, or `ldip_jax` in the user's cache folder."""
    if own := os.environ.get("LDIP_CACHE"):
        return Path(own).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "ldip_jax"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ldip_jax"
    if sys.platform == "win32" and (base := os.environ.get("LOCALAPPDATA")):
        return Path(base) / "ldip_jax" / "Cache"
    return Path.home() / ".cache" / "ldip_jax"
