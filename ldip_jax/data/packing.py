"""Packs clips on disk into a data set for training."""

import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import DownloadConfig

from ldip_jax.data import builders, folders
from ldip_jax.data.fingerprints import fingerprints
from ldip_jax.data.folders import Splits
from ldip_jax.data.heldout import NAME, HeldOutClip, held_out_reason, read_heldout
from ldip_jax.errors import InputError
from ldip_jax.progress import Progress

DATASETS: dict[str, type[builders.ClipsBuilder]] = {
    "reds": builders.Reds,
    "vimeo90k": builders.Vimeo90k,
    "vid4": builders.Vid4,
    "udm10": builders.Udm10,
    "video_folder": builders.VideoFolder,
}
_FIND: dict[str, Callable[[Path, Callable[[], None]], Splits]] = {
    "reds": folders.find_reds,
    "vimeo90k": folders.find_vimeo90k,
    "vid4": folders.find_vid4,
    "udm10": folders.find_udm10,
}
HELD_OUT = "heldout"
NO_HELD_OUT_CLIPS = Path("none")
"""As a list of held-out clips: there are none."""


def prepare(
    dataset: str,
    source: Path,
    output: Path,
    shots: Path | None = None,
    heldout: Path | None = None,
    reduce: float = 1.0,
    overwrite: bool = False,
) -> Path:
    """Pack a data set; an interrupted run is resumed.

    Args:
        heldout: the list of held-out clips; None: that of the package; `NO_HELD_OUT_CLIPS`: no clip is held
            out.

    Returns:
        the folder of the data set, which is written completely or not at all.

    Raises:
        InputError: clips are missing, damaged or have the wrong size; there is no list of held-out clips; a
            different data set already exists in `output`; `output` cannot be written; or `reduce` is out of
            range.
    """
    if not 0.25 <= reduce <= 1.0:
        raise InputError(f"--reduce {reduce}: choose from 0.25 to 1")
    # First, so that a missing list is reported at once.
    listing = (
        read_heldout(heldout or NAME) if dataset == "video_folder" and heldout != NO_HELD_OUT_CLIPS else []
    )
    with Progress(f"looking through {source}", None, {"clip": 1.0}) as progress:
        on_clip = lambda: progress.advance("clip")  # noqa: E731
        splits = (
            _FIND[dataset](source, on_clip)
            if dataset in _FIND
            else folders.find_clips(source, on_clip, shots)
        )
    if dataset == "video_folder":
        splits = _separate_held_out(splits, source, listing)
        splits = {name: [folders.reduce_size(c, reduce) for c in clips] for name, clips in splits.items()}
    state = builders.digest(splits)
    staging = output / f".{dataset}-{state[:16]}"
    with Progress("packing", {"frame": _count_frames(splits)}, {"frame": 1.0}) as progress:
        builder = DATASETS[dataset](
            splits=splits, staging=staging, advance=lambda: progress.advance("frame"), data_dir=output
        )
        folder = Path(builder.data_dir)
        if folder.exists() and not overwrite and _stored_digest(folder) == state:
            print(f"{folder}: exists already", file=sys.stderr)
            return folder
        if folder.exists() and not overwrite:
            raise InputError(
                f"{folder}: was made from other files, or with another list of held-out clips; choose"
                " another --output, or --overwrite it"
            )
        # Left by a run whose files have changed since, or by one that was killed while it linked its shards.
        for leftover in [*output.glob(f".{dataset}-*"), *folder.parent.glob("incomplete.*")]:
            if leftover != staging:
                shutil.rmtree(leftover, ignore_errors=True)
        try:
            staging.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{output}: cannot be written ({error.strerror}); choose another") from error
        if folder.exists():
            shutil.rmtree(folder)
        tfds.disable_progress_bar()
        builder.download_and_prepare(
            download_dir=staging, download_config=DownloadConfig(try_download_gcs=False)
        )
    shutil.rmtree(staging)
    _report(folder, splits)
    return folder


def _separate_held_out(splits: Splits, source: Path, heldout: list[HeldOutClip]) -> Splits:
    """Put held-out clips into a separate split; all clips get their fingerprints."""
    apart: Splits = {"train": [], HELD_OUT: []}
    # The data set may be named by the folder of the clips or by one above it, as in DAVIS/JPEGImages/480p.
    place = "/".join(source.resolve().parts[-3:])
    clips, found = splits["train"], []
    with Progress("comparing with held-out clips", {"clip": len(clips)}, {"clip": 1.0}) as progress:
        for clip, fingerprint in zip(clips, fingerprints(clips), strict=True):
            why = held_out_reason(clip.name, heldout, fingerprint, place)
            apart[HELD_OUT if why else "train"].append(replace(clip, fingerprint=fingerprint))
            found += [f"{clip.name} ({why})"] if why else []
            progress.advance("clip")
    if found:
        print(f"held out: {', '.join(found)}", file=sys.stderr)
    return apart


def _count_frames(splits: Splits) -> int:
    return sum(clip.count for clips in splits.values() for clip in clips)


def _stored_digest(folder: Path) -> str | None:
    """The digest of the files that a data set was made from; None if it cannot be read."""
    with suppress(Exception):
        return tfds.builder_from_directory(folder).info.metadata["digest"]  # type: ignore[index]
    return None


def _report(folder: Path, splits: Splits) -> None:
    size = sum(file.stat().st_size for file in folder.iterdir())
    parts = [f"{name} {len(clips)} clips" for name, clips in splits.items() if clips]
    print(
        f"{folder}: {', '.join(parts)}; {_count_frames(splits)} frames, {size / 2**30:.2f} GiB",
        file=sys.stderr,
    )
