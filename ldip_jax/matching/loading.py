"""The matcher that a user selects: one by its name, or a folder of precomputed matches."""

import math
import zipfile
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from ldip_jax.errors import InputError
from ldip_jax.matching.dense import flow_matcher
from ldip_jax.matching.gmflow import GMFlowMatcher
from ldip_jax.matching.matcher import Match, Matcher, Pair
from ldip_jax.models.networks.spynet import SPyNet
from ldip_jax.ops.warp import inside
from ldip_jax.untrusted import printable, reading
from ldip_jax.weights.fetch import Progress
from ldip_jax.weights.load import load_weights

_LONGEST_HEADER = 1 << 16


class PrecomputedMatcher:
    """Reads `{key:08d}_{reference name}.npz` for a pair.

    Each file holds two float32 arrays: `warp`, H W 2, places (x, y) in pixels of the reference file as given,
    and `confidence`, H W, in [0, 1]. (H, W) is the size at which LRRF works: 4 times that of the frames, or
    that of the output if the arbitrary-scale head makes it.
    """

    def __init__(self, folder: str | Path):
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise InputError(f"{folder}: no such folder of matches")

    def path(self, key_frame: int, name: str) -> Path:
        """The file of a key-frame and a reference.

        Raises:
            InputError: there is no such file.
        """
        path = self._folder / f"{key_frame:08d}_{name}.npz"
        if not path.is_file():
            raise InputError(
                f"{path}: no such file; the folder of matches needs one per key-frame and reference"
            )
        return path

    def coarse(self, pair: Pair) -> Match:
        """The match in the pair's file.

        Raises:
            InputError: the file is missing or damaged, or an array has a wrong name, type or size, non-finite
                values, or confidence outside [0, 1].
        """
        path = self.path(pair.key_frame, pair.name)
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
        """`match` unchanged: precomputed matches are used as they are."""
        return match


def _read(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; the header of each is checked before its data are read."""
    with reading(path, "cannot be read as an .npz file", "write it again"), zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        if names != set(shapes):
            found = printable(", ".join(map(repr, sorted(names))))
            raise InputError(f"{path}: holds arrays [{found}], not 'warp' and 'confidence'")
        return {name: _read_member(archive, name, shape, path) for name, shape in shapes.items()}


def _read_member(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], path: Path) -> np.ndarray:
    held, needed = archive.getinfo(f"{name}.npy").file_size, 4 * math.prod(shape)
    if held > needed + _LONGEST_HEADER:
        raise InputError(
            f"{path}: '{name}' takes {held} bytes, not {needed}; matches are at the size at which LRRF works"
        )
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


def check_matcher(name_or_folder: str | Path) -> None:
    """Check that this matcher exists.

    Raises:
        InputError: neither a matcher's name nor a folder.
    """
    if name_or_folder not in ("gmflow", "flow") and not Path(name_or_folder).is_dir():
        raise InputError(f"{name_or_folder}: no such matcher; give gmflow, flow, or a folder of matches")


def load_matcher(
    name_or_folder: str | Path,
    spynet: dict[str, Any],
    refine: bool = True,
    flow: tuple[nn.Module, dict[str, Any]] | None = None,
    progress: Progress = print,
) -> Matcher:
    """The matcher `gmflow` or `flow`, or one that reads a folder of precomputed matches.

    Args:
        name_or_folder: the name or the folder; the weights of `gmflow` are fetched if they are not in the
            cache.
        spynet: parameters of the backbone's own flow network, for `flow` and for the refinement.
        refine: whether matches of `gmflow` are refined.
        flow: the clip's flow network and its parameters, for `flow`, if it is not the backbone's own.
        progress: receives lines of text while weights are fetched.

    Raises:
        InputError: neither a name nor a folder; or the weights cannot be fetched or read.
    """
    check_matcher(name_or_folder)
    if name_or_folder == "gmflow":
        weights = load_weights("gmflow", network="gmflow", progress=progress)
        return GMFlowMatcher(weights.params, spynet if refine else None)
    if name_or_folder == "flow":
        return flow_matcher(*(flow or (SPyNet(), spynet)))
    return PrecomputedMatcher(name_or_folder)
