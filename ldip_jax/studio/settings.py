"""What the user sets on the page, and the arguments of `ldip upscale` that it means."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ldip_jax.errors import InputError
from ldip_jax.memory import parse_size


class Format(NamedTuple):
    """A kind of output: how the page names it, the file's extension ("" for a folder), and the arguments."""

    title: str
    suffix: str
    words: tuple[str, ...] = ()


FORMATS = {
    "h264": Format("MP4, H.264: plays everywhere", ".mp4"),
    "h265": Format("MP4, H.265: smaller", ".mp4", ("--codec", "h265")),
    "prores": Format("MOV, ProRes: for editing", ".mov", ("--codec", "prores")),
    "lossless": Format("MKV, lossless: every value kept", ".mkv", ("--lossless",)),
    "png": Format("PNG frames in a ZIP file", ""),
}


# What may happen at a damaged frame, and how the page names it.
DAMAGED = {"stop": "stop there", "hold": "repeat the frame before", "skip": "leave them out"}


@dataclass(frozen=True)
class Settings:
    """What the user sets.

    Attributes:
        scale: 1 to 8.
        memory: such as "8G"; "": what is free.
        format: a key of `FORMATS`.
        damaged: a key of `DAMAGED`.
    """

    scale: float = 4.0
    memory: str = ""
    format: str = "h264"
    damaged: str = "stop"

    def words(self) -> list[str]:
        """The arguments that decide how frames are made."""
        words = ["--scale", f"{self.scale:g}", "--on-error", self.damaged]
        return [*words, *(["--memory", self.memory] if self.memory else [])]


def read_settings(values: Mapping[str, Any]) -> Settings:
    """Settings from what a page sends.

    Raises:
        InputError: one of them cannot be used.
    """
    try:
        scale = float(str(values.get("scale", 4)).strip())
    except ValueError:
        scale = 0.0
    if not 1.0 <= scale <= 8.0:
        raise InputError("Enlarge: give a number between 1 and 8, such as 4 or 2.5")
    memory = str(values.get("memory", "")).strip().upper()
    if memory:
        try:
            parse_size(memory)
        except InputError:
            raise InputError("Memory limit: give a size, such as 1500M or 8G, or leave it empty") from None
    kind = str(values.get("format", "h264"))
    if kind not in FORMATS:
        raise InputError(f"Output: choose from {', '.join(FORMATS)}")
    damaged = str(values.get("damaged", "stop"))
    if damaged not in DAMAGED:
        raise InputError(f"Damaged frames: choose from {', '.join(DAMAGED)}")
    return Settings(scale, memory.replace(" ", ""), kind, damaged)
