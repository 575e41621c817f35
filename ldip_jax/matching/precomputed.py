"""Matches made elsewhere, read from a folder: the way in for any external matcher."""

import zipfile
import zlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from ldip_jax.errors import InputError
from ldip_jax.matching.confidence import inside
from ldip_jax.matching.matcher import Match, Pair


class PrecomputedMatcher:
    """Reads `{key:08d}_{reference name}.npz` for a pair.

    Each file holds two float32 arrays: `warp`, H W 2, places (x, y) in pixels of the reference file as given,
    and `confidence`, H W, in [0, 1]; (H, W) is the size at which LRRF works: x4 of the frames, or that of the
    output where the arbitrary-scale head makes it.
    """

    def __init__(self, folder: str | Path):
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise InputError(f"{folder}: no such folder of matches")

    def path(self, key: int, name: str) -> Path:
        """The file of a key-frame and a reference.

        Raises:
            InputError: there is none.
        """
        path = self._folder / f"{key:08d}_{name}.npz"
        if not path.is_file():
            raise InputError(
                f"{path}: no such file; the folder of matches needs one per key-frame and reference"
            )
        return path

    def coarse(self, pair: Pair) -> Match:
        """The match in the pair's file.

        Raises:
            InputError: the file is missing or damaged, or an array has another name, type or size, or holds
                values that make no sense.
        """
        path = self.path(pair.key, pair.name)
        shapes = {"warp": (*pair.size, 2), "confidence": pair.size}
        arrays = _read(path, shapes)
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise InputError(f"{path}: holds values that are not finite; mark unknown places by confidence 0")
        confidence = arrays["confidence"]
        if confidence.min() < 0.0 or confidence.max() > 1.0:
            raise InputError(
                f"{path}: confidence lies within [0, 1], not [{confidence.min():g}, {confidence.max():g}]"
            )
        warp = jnp.asarray(arrays["warp"])[None]
        return Match(warp, jnp.asarray(confidence)[None, ..., None] * inside(warp, pair.reference_size))

    def refine(self, pair: Pair, match: Match, scale: tuple[float, float]) -> Match:
        """`match` as it is: who made it knows best."""
        return match


def _read(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, each checked by its header before its data are read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            if names != set(shapes):
                raise InputError(f"{path}: holds arrays {sorted(names)}, not 'warp' and 'confidence'")
            return {name: _read_member(archive, name, shape, path) for name, shape in shapes.items()}
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read as an .npz file ({error}); write it again") from error


def _read_member(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], path: Path) -> np.ndarray:
    with archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if reader is None:
            raise InputError(f"{path}: '{name}' is in .npy format {version}, which float32 data do not need")
        found, _, dtype = reader(member)
    if dtype != np.float32:
        raise InputError(f"{path}: '{name}' is {dtype}, not float32")
    if found != shape:
        raise InputError(
            f"{path}: '{name}' has shape {found}, not {shape}; matches are at the size at which LRRF works"
        )
    with archive.open(f"{name}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)
