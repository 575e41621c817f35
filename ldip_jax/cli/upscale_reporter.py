"""What `ldip upscale` reports: lines on the terminal, and events in a file."""

import argparse
import json
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from ldip_jax.errors import InputError

if TYPE_CHECKING:
    from ldip_jax.inference.mrefsr import MRefSRUpscaler
    from ldip_jax.inference.references import ReferenceChoice
    from ldip_jax.inference.upscaler import Upscaler

# Seconds from one event about progress to the next.
_PROGRESS_INTERVAL = 1.0


class Reporter:
    """Prints lines as --quiet and --verbose ask, and writes events for --log-json, one JSON object a line.

    A context manager: the file of events is open within.
    """

    def __init__(self, args: argparse.Namespace):
        self.verbose = args.verbose
        self.quiet = args.quiet
        # Frames may go to standard output.
        self._results: TextIO = sys.stderr if args.output == Path("-") else sys.stdout
        self._path: Path | None = args.log_json
        self._log: TextIO | None = None
        self._clip: str | None = None
        self._last_progress = time.monotonic()

    def __enter__(self) -> "Reporter":
        if self._path is not None:
            try:
                # A run that resumes goes on in the same file.
                self._log = open(self._path, "a", encoding="utf-8")
            except OSError as error:
                raise InputError(
                    f"{self._path}: cannot be written ({error.strerror}); choose another --log-json"
                ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.event("error", kind=type(error).__name__, message=str(error))
        if self._log is not None:
            self._log.close()

    def set_clip(self, clip: str | None) -> None:
        """Which clip the events that follow are about."""
        self._clip = clip

    def note(self, line: str) -> None:
        """A line about what is done with the clip."""
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)
        self.event("note", message=line)

    def failure(self, line: str) -> None:
        """A line about what went wrong, which --quiet does not leave out."""
        print(line, file=sys.stderr, flush=True)
        self.event("failure", message=line)

    def result(self, line: str, **fields: object) -> None:
        """A line about what was made."""
        if not self.quiet:
            print(line, file=self._results, flush=True)
        self.event("done", message=line, **fields)

    def progress(self, share: float | None, frames: int) -> None:
        """How far the clip is; an event every few seconds."""
        if self._log is not None and time.monotonic() - self._last_progress > _PROGRESS_INTERVAL:
            self._last_progress = time.monotonic()
            self.event("progress", share=share, frames=frames)

    def event(self, event_name: str, **fields: object) -> None:
        """Write an event."""
        if self._log is None:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        clip = {} if self._clip is None else {"clip": self._clip}
        self._log.write(json.dumps({"time": now, "event": event_name, **clip, **fields}) + "\n")
        self._log.flush()


def choice_lines(upscaler: "Upscaler | MRefSRUpscaler", first: int = 0) -> list[str]:
    """A line for each key-frame: its references; `first` is added to the key-frames' places."""
    lines = []
    for key, choices in sorted(upscaler.choices.items()):
        lines.append(f"key-frame {first + key}: {', '.join(map(describe_choice, choices)) or 'no reference'}")
    return lines


def softening_line(upscaler: "Upscaler") -> str:
    """The message that frames were blurred, with the flag that keeps them as they are."""
    from ldip_jax.inference.api import softening_note

    return f"{softening_note(upscaler)} (--soften none turns this off)"


def describe_choice(choice: "ReferenceChoice") -> str:
    """A reference, how much of the key-frame it matches, and what else was decided on it."""
    return f"{choice.name} ({100 * choice.share:.0f} %{', ' if choice.note else ''}{choice.note})"


def summarise_method(upscaler: "Upscaler | MRefSRUpscaler", still_count: int, frame_count: int) -> str:
    """What made a clip, for its summary.

    Args:
        still_count: how many were given.
        frame_count: frames of the clip.
    """
    from ldip_jax.inference.upscaler import Upscaler

    restorer = upscaler.restorer if isinstance(upscaler, Upscaler) else None
    first = "" if restorer is None else f"restored by {restorer.model.backbone.name}, then "
    if isinstance(upscaler, Upscaler) and upscaler.softening:
        first += f"softened by {upscaler.softening:g} pixels, then "
    if not isinstance(upscaler, Upscaler) or not upscaler.model.refined:
        return first + upscaler.model.title
    model = upscaler.model
    chosen = [choice for choices in upscaler.choices.values() for choice in choices if choice.used]
    stills, self_references = (
        {choice.name for choice in chosen if choice.is_self_reference is kind} for kind in (False, True)
    )
    parts = [f"{len(stills)} of {still_count} stills used"] if still_count else []
    parts += (
        [f"{len(self_references)} of its own frames as references"]
        if self_references or not still_count
        else []
    )
    parts += [f"{len(upscaler.cuts)} cut{'s' * (len(upscaler.cuts) != 1)}"] if upscaler.cuts else []
    title = model.backbone_only if upscaler.backbone_only_frames == frame_count else model.title
    return ", ".join([first + title, *parts])
