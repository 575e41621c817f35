"""From a training config to the clips that are trained on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ldip_jax.data.camera_moves import CameraMoveClips
from ldip_jax.data.clips import Footage, SamplingSpec
from ldip_jax.data.config import DataConfig
from ldip_jax.data.heldout import read_heldout, refuse_held_out
from ldip_jax.data.source import Items
from ldip_jax.data.synthetic import SyntheticClips


def sampling_spec(data: DataConfig, *, for_records: bool = False) -> SamplingSpec:
    """How samples are drawn, from `config.data`.

    Args:
        for_records: for records, from which crops are drawn many times: always the largest numbers of
            key-frames and references. How many a training sample has is drawn only once, here or when it is
            cropped.

    Raises:
        InputError: numbers that are out of range or contradict each other.
    """
    # `replace` checks the values that were set since.
    return SamplingSpec(
        context_frames=data.frames,
        target_frames=data.clip,
        max_key_frames=data.key_frames,
        max_references=data.references,
        min_key_frames=data.key_frames if for_records else 1,
        min_references=data.references if for_records else data.fewest_references,
        scale=data.scale,
        augment=data.augment,
        input=replace(data.input),
        jitter=replace(data.reference_jitter),
    )


def open_clips(data: DataConfig, split: str = "train", seed: int = 0) -> Items[Footage]:
    """The clips of `data.dataset`.

    Args:
        data: `config.data`. "synthetic" and "stills" make frames of `size` (height, width).
        split: a split of a prepared data set, or several, joined by +. Held-out clips are refused in "train".
        seed: seed of clips that are rendered ("synthetic" and "stills").

    Raises:
        InputError: there is no such data, it contains a held-out clip, or clips are too short or too small.
    """
    if data.dataset == "synthetic":
        return SyntheticClips(data.size, data.frames, seed=seed)
    if data.dataset == "stills":
        clips = CameraMoveClips(Path(data.data_dir), data.size, data.frames, seed=seed)
    else:
        # Reading prepared data needs packages that rendered clips do not need.
        from ldip_jax.data.prepared import PreparedClips

        clips = PreparedClips(data.dataset, data.data_dir, split, min_frames=data.clip)
    if data.heldout and "train" in split.split("+"):
        refuse_held_out(named_fingerprints(clips), read_heldout(data.heldout), data.data_dir)
    return clips


def named_fingerprints(clips: Any) -> list[tuple[str, str | None]]:
    """The name of each clip of a data set, and its fingerprint; "" for clips that are rendered."""
    return getattr(clips, "named_fingerprints", None) or [(name, "") for name in getattr(clips, "names", ())]
