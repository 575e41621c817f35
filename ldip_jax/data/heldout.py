"""Held-out clips, which must not be trained on: those of test sets, and those reserved for reports.

A list of them is a JSON file, `{"clips": [{"dataset": "vid4", "name": "walk", "why": "...", "frames": ""}]}`.
`frames` is a fingerprint of the content (`ldip_jax/data/fingerprints.py`), if it is known. In lists of
earlier versions, `{"clips": {"walk": "..."}}`, a clip is held out by its name only, in any data set.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ldip_jax.command import guarded
from ldip_jax.config_files import shipped_configs
from ldip_jax.data.fingerprints import DIGITS, fingerprints, shows_the_same
from ldip_jax.data.folders import find_clips
from ldip_jax.errors import InputError

NAME = "configs/heldout.json"
"""Where the list of the package lies, as `config.data.heldout` names it."""

# At the end of the name of a part of a clip: its first and last frame.
_PART = re.compile(r"@\d+-\d+$")


@dataclass(frozen=True)
class HeldOutClip:
    """An entry of the list.

    Attributes:
        name: of the clip, without an extension.
        why: the reason.
        dataset: its data set; "": any.
        frames: a fingerprint of its frames; "": unknown.
    """

    name: str
    why: str
    dataset: str = ""
    frames: str = ""

    def __post_init__(self) -> None:
        if not all(isinstance(text, str) for text in (self.name, self.why, self.dataset, self.frames)):
            raise TypeError("not text")
        if any(len(bytes.fromhex(text)) != DIGITS // 2 for text in self.frames.split()):
            raise ValueError("not hashes of frames")


def read_heldout(path: str | Path) -> list[HeldOutClip]:
    """A list of held-out clips.

    Args:
        path: of the file. If there is no file `configs/heldout.json`, the list of the package is read.

    Raises:
        InputError: there is no such file, or it is not a list of held-out clips.
    """
    file = Path(path)
    if not file.is_file() and file == Path(NAME):
        file = shipped_configs() / file.name
    try:
        clips: Any = json.loads(file.read_text(encoding="utf-8"))["clips"]
        if isinstance(clips, dict):
            return [HeldOutClip(name, why) for name, why in clips.items()]
        return [HeldOutClip(**clip) for clip in clips]
    except OSError as error:
        raise InputError(
            f"{path}: the list of held-out clips cannot be read ({error.strerror}); give another file, or"
            " hold nothing out (--heldout none, or an empty config.data.heldout)"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f'{path}: not a list of held-out clips; write {{"clips": [{{"dataset": "DATASET", "name": "NAME",'
            ' "why": "WHY"}]}'
        ) from error


def held_out_reason(
    name: str, heldout: Sequence[HeldOutClip], frames: str | None = None, place: str = ""
) -> str | None:
    """Why a clip is held out; None if it is not.

    Args:
        name: folders and file of the clip, such as `walk`, `Vid4/walk` or `walk.mp4@0-99`. Each part is
            compared, with and without its extension, ignoring case. If an entry has a data set, one of the
            folders, or of those in `place`, must have its name.
        heldout: what `read_heldout` returns.
        frames: the fingerprint of the clip. None for data of earlier versions, which have none: names are
            then compared without data sets.
        place: where the folders lie.
    """
    parts = {part.casefold() for part in PurePosixPath(_PART.sub("", name)).parts}
    names = parts | {PurePosixPath(part).stem for part in parts}
    folders = parts | {part.casefold() for part in PurePosixPath(place).parts}
    for entry in heldout:
        dataset = "" if frames is None else entry.dataset.casefold()
        if entry.name.casefold() in names and (not dataset or dataset in folders):
            return entry.why
        if shows_the_same(frames or "", entry.frames):
            return entry.why
    return None


def refuse_held_out(
    clips: Iterable[tuple[str, str | None]], heldout: Sequence[HeldOutClip], where: str
) -> None:
    """Raise if one of the clips is held out.

    Args:
        clips: the name of each clip, and its fingerprint, as for `held_out_reason`.

    Raises:
        InputError: a clip is held out; the message names it and says why.
    """
    for name, frames in clips:
        why = held_out_reason(name, heldout, frames)
        if why is not None:
            raise InputError(
                f"{where}: {name} is not for training ({why}); take it out, or prepare the data again: "
                "held-out clips then go to a split of their own"
            )


# The most frames of a clip that an entry stores.
_MAX_FRAMES = 100


def main(argv: Sequence[str] | None = None) -> int:
    """Print entries for the list."""
    parser = argparse.ArgumentParser(
        prog="python -m ldip_jax.data.heldout",
        description="Print entries for a list of held-out clips, one line for each clip of a folder.",
    )
    parser.add_argument("dataset", help="the name of their data set")
    parser.add_argument("source", type=Path, help="a folder of clips, or of the frames of one clip")
    parser.add_argument("--why", default="held out", help="the reason (default: %(default)s)")
    args = parser.parse_args(argv)
    frames: dict[str, list[str]] = {}
    clips = find_clips(args.source, lambda: None)["train"]
    for clip, text in zip(clips, fingerprints(clips, _MAX_FRAMES), strict=True):
        frames.setdefault(_PART.sub("", clip.name), []).extend(text.split())
    for name, hashes in frames.items():
        step = -(-len(hashes) // _MAX_FRAMES)
        entry = HeldOutClip(PurePosixPath(name).stem, args.why, args.dataset, " ".join(hashes[::step]))
        print(json.dumps(asdict(entry)))
    return 0


if __name__ == "__main__":
    sys.exit(guarded("heldout", main, "smaller frames need less"))
