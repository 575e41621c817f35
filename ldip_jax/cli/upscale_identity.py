"""What an upscaled clip is made from, so that a run resumes only the same work."""

import argparse
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import jax
import numpy as np

import ldip_jax
from ldip_jax.inference.mrefsr import MRefSRUpscaler
from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.upscaler import Upscaler

# Bytes at either end of a file, and at places between, that stand for its content.
_ENDS, _PIECE, _PIECES = 1 << 20, 1 << 16, 32
# Options that change frames, by the names that the user knows.
_OPTIONS = (
    "method",
    "key_stride",
    "self_refs",
    "exclude",
    "ref_threshold",
    "refs_as_given",
    "matcher",
    "flow",
)
_OPTIONS += ("propagation", "cuts", "start", "end", "frames", "fps", "on_error")


def describe_run(
    args: argparse.Namespace, path: Path, upscaler: Upscaler | MRefSRUpscaler, stills: Sequence[Still]
) -> dict[str, Any]:
    """What decides the bytes of the output, by names for messages."""
    options = {f"--{name.replace('_', '-')}": str(getattr(args, name)) for name in _OPTIONS}
    found: dict[str, Any] = {
        "version of ldip_jax": ldip_jax.__version__,
        "version of av": av.__version__,
        "input": _content(path),
        "size of the output": f"{upscaler.out_size[1]}x{upscaler.out_size[0]}",
        "choice of weights": _weights(upscaler.model.params),
        "set of references": [_still(still) for still in stills],
        **options,
    }
    if isinstance(upscaler, Upscaler):
        restorer = upscaler.restorer
        found["--soften"] = "auto" if args.soften is None else f"{args.soften:g} pixels"
        found["--restore"] = None if restorer is None else _weights(restorer.model.params)
        found["size of tiles (--memory)"] = upscaler.describe_tiles(len(stills))
    if args.matcher not in ("gmflow", "flow"):
        found["folder of matches"] = _content(Path(args.matcher))
    return found


def _content(path: Path) -> str:
    """Size and a sample of the content of a file, or of the files in a folder."""
    digest = hashlib.sha256()
    if path.is_dir():
        files = sorted(entry for entry in path.iterdir() if entry.is_file() and entry.name[0] != ".")
        for file in files:
            digest.update(f"{file.name} {file.stat().st_size}\n".encode(errors="surrogateescape"))
            with open(file, "rb") as held:
                digest.update(held.read(_PIECE))
        return f"{len(files)} files, sha256 {digest.hexdigest()}"
    size = path.stat().st_size
    with open(path, "rb") as held:
        digest.update(held.read(_ENDS))
        for place in np.linspace(0, size, _PIECES, endpoint=False).astype(int).tolist():
            held.seek(place)
            digest.update(held.read(_PIECE))
        held.seek(max(0, size - _ENDS), os.SEEK_SET)
        digest.update(held.read(_ENDS))
    return f"{size} bytes, sha256 {digest.hexdigest()}"


def _weights(params: Any) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _still(still: Still) -> list[Any]:
    digest = hashlib.sha256(np.ascontiguousarray(still.image).tobytes())
    if still.mask is not None:
        digest.update(np.ascontiguousarray(still.mask).tobytes())
    return [still.name, still.moment, digest.hexdigest()]
