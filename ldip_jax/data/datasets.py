"""From a config to the clips that are trained on."""

from pathlib import Path
from typing import Any

from ldip_jax.data.clips import ClipPlan, Footage
from ldip_jax.data.heldout import read_heldout, refuse_held_out
from ldip_jax.data.source import Items
from ldip_jax.data.stills import StillClips
from ldip_jax.data.synthetic import SyntheticClips


def clip_plan(data: Any, *, spare: bool = False) -> ClipPlan:
    """`config.data` as a plan of samples.

    Args:
        spare: for records, out of which crops choose again and again: as many key-frames and references as
            there may be. How many a training sample has is drawn once, here or when it is cropped.

    Raises:
        InputError: numbers that do not go together.
    """
    return ClipPlan(
        frames=data.frames,
        clip=data.clip,
        key_frames=data.key_frames,
        references=data.references,
        fewest_key_frames=data.key_frames if spare else 1,
        fewest_references=data.references if spare else data.fewest_references,
        scale=tuple(data.scale),
        augment=data.augment,
    )


def open_clips(data: Any, split: str = "train", seed: int = 0) -> Items[Footage]:
    """The clips of `data.dataset`.

    Args:
        data: `config.data`. "synthetic" and "stills" make frames of `size` (height, width).
        split: of a prepared data set; several with +. Held-out clips may be in any but "train".
        seed: of made-up clips.

    Raises:
        InputError: no such data, a held-out clip in it, or clips too short for the plan.
    """
    if data.dataset == "synthetic":
        return SyntheticClips(tuple(data.size), data.frames, seed=seed)
    if data.dataset == "stills":
        clips = StillClips(Path(data.data_dir), tuple(data.size), data.frames, seed=seed)
    else:
        # Reading prepared data takes packages that made-up scenes do without.
        from ldip_jax.data.prepared import PreparedClips

        clips = PreparedClips(data.dataset, data.data_dir, split, fewest_frames=data.clip)
    if data.heldout and "train" in split.split("+"):
        refuse_held_out(clips.names, read_heldout(data.heldout), data.data_dir)
    return clips
