"""Clips that nothing may be trained on: those of test sets, and those kept for reports."""

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ldip_jax.errors import InputError


def read_heldout(path: str | Path) -> dict[str, str]:
    """A list of held-out clips, `{"clips": {"name": "why"}}`; names without extensions.

    Raises:
        InputError: no such file, or something else in it.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        clips = content["clips"]
        if not all(isinstance(why, str) for why in clips.values()):
            raise TypeError
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check data.heldout") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f'{path}: lists no held-out clips; write {{"clips": {{"NAME": "WHY"}}}}') from error
    return dict(clips)


def why_held_out(name: str, heldout: dict[str, str]) -> str | None:
    """Why a clip is held out; None if it is not.

    Args:
        name: folders and file of the clip, such as `walk`, `Vid4/walk` or `walk.mp4@0-99`: each part counts,
            without its extension, upper case or lower.
        heldout: what `read_heldout` gives.
    """
    reasons = {held.casefold(): why for held, why in heldout.items()}
    for part in PurePosixPath(name).parts:
        plain = part.rsplit("@", 1)[0]
        for candidate in (plain, PurePosixPath(plain).stem):
            if candidate.casefold() in reasons:
                return reasons[candidate.casefold()]
    return None


def refuse_held_out(names: Iterable[str], heldout: dict[str, str], where: str) -> None:
    """Raise if one of the clips is held out.

    Raises:
        InputError: names the clip and why.
    """
    for name in names:
        why = why_held_out(name, heldout)
        if why is not None:
            raise InputError(
                f"{where}: {name} is not for training ({why}); take it out, or prepare the data again: "
                "held-out clips then go to a split of their own"
            )
