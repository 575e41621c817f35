"""Metadata of a video's frames: HDR10 mastering, stereo views, Dolby Vision and HDR10+."""

import struct
from dataclasses import dataclass
from typing import Any

from av import VideoFrame
from av.video.stream import VideoStream

# The Matroska name of an arrangement of two views, and x264's number.
STEREO = {"side_by_side": ("left_right", 3), "top_bottom": ("top_bottom", 4)}
_STEREO_TYPES = {0: None, 1: "side_by_side", 2: "top_bottom"}
_NAMES = {"mono": None, "left_right": "side_by_side", "top_bottom": "top_bottom"}


@dataclass(frozen=True)
class FrameMetadata:
    """The metadata of the first frame.

    Attributes:
        mastering: the display on which an HDR clip was graded, as x264 and x265 write it; None: unknown.
        light: the brightest pixel and the brightest frame on average, in candela per square metre.
        stereo: "side_by_side" or "top_bottom" for two views in one frame, or Matroska's name of another
            arrangement.
        dynamic: there are Dolby Vision or HDR10+ data, which would not fit the new pixels.
    """

    mastering: str | None = None
    light: tuple[int, int] | None = None
    stereo: str | None = None
    dynamic: bool = False


def read_frame_metadata(frame: VideoFrame, stream: VideoStream) -> FrameMetadata:
    """Read the metadata of a decoded frame and of its stream."""
    held: Any = frame.side_data
    data = {entry.type.name: bytes(entry) for entry in held}
    stereo = stream.metadata.get("stereo_mode")
    if stereo is not None:
        stereo = _NAMES.get(stereo, stereo)
    elif len(data.get("STEREO3D", b"")) >= 4:
        (kind,) = struct.unpack_from("=i", data["STEREO3D"])
        stereo = _STEREO_TYPES.get(kind, f"kind {kind}")
    light = data.get("CONTENT_LIGHT_LEVEL", b"")
    return FrameMetadata(
        _mastering(data.get("MASTERING_DISPLAY_METADATA", b"")),
        struct.unpack_from("=2I", light) if len(light) >= 8 else None,
        stereo,
        bool(data.keys() & {"DYNAMIC_HDR_PLUS", "DOVI_METADATA", "DOVI_RPU_BUFFER"}),
    )


def _mastering(data: bytes) -> str | None:
    """The library's structure: ten fractions, and whether primaries and luminance are known."""
    if len(data) < 88:
        return None
    numbers = struct.unpack_from("=22i", data)
    if not (numbers[20] and numbers[21]) or 0 in numbers[1:20:2]:
        return None
    values = [numbers[i] / numbers[i + 1] for i in range(0, 20, 2)]
    red, green, blue, white = (
        f"({round(values[i] * 50000)},{round(values[i + 1] * 50000)})" for i in (0, 2, 4, 6)
    )
    luminance = f"({round(values[9] * 10000)},{round(values[8] * 10000)})"
    return f"G{green}B{blue}R{red}WP{white}L{luminance}"


def encoder_settings(encoder: str, metadata: FrameMetadata) -> tuple[dict[str, str], list[str]]:
    """Options of the encoder that keep the frames' metadata, and notes on what cannot be kept."""
    settings: list[str] = []
    dropped: list[str] = []
    names = {"libx265": ("master-display", "max-cll"), "libx264": ("mastering-display", "cll")}.get(encoder)
    if metadata.mastering or metadata.light:
        if names is None:
            dropped.append("HDR10 mastering data")
        else:
            settings += [f"{names[0]}={metadata.mastering}"] if metadata.mastering else []
            settings += [f"{names[1]}={','.join(map(str, metadata.light))}"] if metadata.light else []
    if encoder == "libx264" and metadata.stereo in STEREO:
        settings.append(f"frame-packing={STEREO[metadata.stereo][1]}")
    if metadata.dynamic:
        dropped.append("Dolby Vision or HDR10+ data")
    key = "x265-params" if encoder == "libx265" else "x264-params"
    return ({key: ":".join(settings)} if settings else {}), dropped
