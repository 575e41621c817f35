"""Which encoder writes a video file, and with which settings: codecs with loss, and exact ones."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ldip_jax.errors import InputError
from ldip_jax.media.clip import Clip
from ldip_jax.media.color import BT709, SRGB, Color
from ldip_jax.media.frame_metadata import encoder_settings
from ldip_jax.media.outputs import CONTAINERS

# "auto", 8 or 16.
BitDepth = int | str
# Below about 50 columns x265 writes beyond its buffers and may abort the process.
_SMALLEST_H265 = 64
# If a frame is one column of blocks, x265 uses memory that it has not set: the bytes differ from run to run.
_SMALLER_BLOCKS = ":ctu=32"
_SMALLEST_AV1 = 64
# The coded bytes depend on the number of threads, and must not depend on the machine.
_THREADS = {"threads": "8"}
# With AVX-512, x264 codes the same small frames differently from run to run.
STEADY_X264 = {"x264-params": "asm=AVX2"} if platform.machine() in ("x86_64", "AMD64") else {}
# Frames with more pixels: x264 looks at fewer frames ahead, because all of them wait in memory.
_LARGE, _SHORT_LOOKAHEAD = 2560 * 1440, "rc-lookahead=10"
# What waits in an encoder at most: frames, and bytes per pixel of each, with 8 bits and with more. Measured
# by benchmarks/encoder_memory.py.
_WAITING = {
    "libx264": (62, 4.4, 6.6),
    "libx264rgb": (62, 5.2, 5.2),
    "libx265": (52, 6.0, 10.2),
    "libvpx-vp9": (12, 22.0, 22.0),
    "libsvtav1": (80, 7.5, 12.5),
    "prores_ks": (12, 6.0, 6.0),
    "ffv1": (12, 17.0, 31.5),
}
_WAITING_IF_LARGE = {"libx264": 32, "libx264rgb": 32}


@dataclass(frozen=True)
class _Codec:
    """The properties of a codec.

    Attributes:
        title: in messages.
        encoder: the library's name.
        containers: that hold it, by the library's names.
        crf: the default and the largest; None: it has none.
        options: of the encoder.
        bits: that it can have.
    """

    title: str
    encoder: str
    containers: tuple[str, ...] = ("mp4", "mov", "matroska")
    crf: tuple[int, int] | None = (18, 51)
    options: Mapping[str, str] = field(default_factory=dict)
    bits: tuple[int, ...] = (8, 10)


CODECS = {
    "h264": _Codec("H.264", "libx264", options={"preset": "medium", **_THREADS, **STEADY_X264}),
    # Without "info", which names the machine's instruction sets.
    "h265": _Codec(
        "H.265",
        "libx265",
        options={"preset": "medium", "x265-params": "log-level=error:frame-threads=2:info=0"},
    ),
    "vp9": _Codec(
        "VP9",
        "libvpx-vp9",
        ("mp4", "matroska"),
        (24, 63),
        {"b": "0", "deadline": "good", "cpu-used": "3", "row-mt": "1"},
        (8,),
    ),
    "av1": _Codec("AV1", "libsvtav1", ("mp4", "matroska"), (24, 63), {"preset": "6"}),
    "prores": _Codec("ProRes", "prores_ks", ("mov", "matroska"), None, {"profile": "hq", **_THREADS}, (10,)),
    "ffv1": _Codec("FFV1", "ffv1", ("matroska",), None),
}


@dataclass(frozen=True)
class Coding:
    """An encoder with its settings, one sentence about them, and what it does not carry over."""

    encoder: str
    layout: str
    color: Color
    options: dict[str, str]
    note: str
    dropped: tuple[str, ...] = ()

    def held_bytes(self, pixels: int, count: int | None) -> int:
        """Bytes of memory that the encoder takes at most.

        Args:
            pixels: of a frame.
            count: frames of the clip; None: unknown.
        """
        frames, usual, deep = _WAITING[self.encoder]
        if pixels > _LARGE:
            frames = _WAITING_IF_LARGE.get(self.encoder, frames)
        frames = frames if count is None else min(frames, count)
        return int(frames * (deep if self.color.bits > 8 else usual) * pixels)

    @property
    def delay(self) -> int:
        """The largest number of frames by which packets are decoded before they are shown."""
        return 2 if self.encoder in ("libx264", "libx265") else 0


def choose_coding(
    path: Path,
    *,
    height: int,
    width: int,
    source: Clip | None,
    bit_depth: BitDepth,
    crf: int | None,
    lossless: bool,
    codec: str,
) -> Coding:
    """The encoder for a video file.

    Raises:
        InputError: settings that do not go together.
    """
    kind = CODECS.get(codec)
    if kind is None:
        raise InputError(f"codec {codec}: not available; choose {', '.join(CODECS)}")
    if bit_depth not in ("auto", 8, 16):
        raise InputError(f"bit depth {bit_depth}: choose auto, 8 or 16 (video is then written with 10 bits)")
    high_depth = bit_depth == 16 or (bit_depth == "auto" and source is not None and source.color.bits > 8)
    if lossless:
        return _lossless(path, height * width, source, high_depth, bit_depth)
    container = CONTAINERS[path.suffix.lower()]
    if container not in kind.containers:
        suffixes = [suffix for suffix, name in CONTAINERS.items() if name in kind.containers]
        written = f"{kind.title} is written to {' or '.join(suffixes)}"
        raise InputError(f"{path}: {written}; end the name so, or take another codec")
    if kind.crf is None and crf is not None:
        raise InputError(f"crf {crf}: {kind.title} has no quality setting; leave --crf out")
    if codec == "ffv1":
        return _lossless(path, height * width, source, high_depth, bit_depth)
    return _lossy(path, kind, height, width, source, high_depth, bit_depth, crf)


def _lossy(
    path: Path,
    kind: _Codec,
    height: int,
    width: int,
    source: Clip | None,
    high_depth: bool,
    bit_depth: BitDepth,
    crf: int | None,
) -> Coding:
    bits = 10 if high_depth else 8
    if bits not in kind.bits:
        if bit_depth != "auto":
            raise InputError(f"bit depth {bit_depth}: {kind.title} has {kind.bits[0]} bits; choose auto")
        bits = kind.bits[0]
    odd = bool(height % 2 or width % 2)
    encoder, options = kind.encoder, dict(kind.options)
    if encoder == "libx265" and width < _SMALLEST_H265:
        raise InputError(f"{path}: H.265 needs frames of at least {_SMALLEST_H265} columns; take h264")
    if encoder == "libsvtav1" and (odd or min(height, width) < _SMALLEST_AV1):
        raise InputError(f"{path}: AV1 needs even sides of at least {_SMALLEST_AV1} pixels; take vp9")
    chroma = "444" if odd else "422" if encoder == "prores_ks" else "420"
    if encoder == "prores_ks" and odd:
        options["profile"] = "4444"
    note = kind.title
    if kind.crf is not None:
        usual, largest = kind.crf
        crf = usual if crf is None else crf
        if not 0 <= crf <= largest:
            raise InputError(
                f"crf {crf}: choose a number from 0 (best) to {largest} (smallest), such as {usual}"
            )
        options["crf"] = str(crf)
        note += f", crf {crf}"
    # Tagged in full, in the coding of the input: no player may guess another matrix from the larger size.
    color = BT709 if source is None or source.color.matrix == 0 else source.color
    note += f", {bits} bits, {color}"
    if odd:
        note += ", 4:4:4 chroma since the size is odd"
    if encoder == "libx264":
        _shorten_lookahead(height * width, options)
    if encoder == "libx265" and width == _SMALLEST_H265:
        options["x265-params"] += _SMALLER_BLOCKS
    lost = _add_metadata_options(encoder, source, options)
    layout = f"yuv{chroma}p" + ("" if bits == 8 else "10le")
    return Coding(encoder, layout, replace(color, bits=bits), options, note, lost)


def _shorten_lookahead(pixels: int, options: dict[str, str]) -> None:
    if pixels > _LARGE:
        options["x264-params"] = ":".join(filter(None, [options.get("x264-params"), _SHORT_LOOKAHEAD]))


def _add_metadata_options(encoder: str, source: Clip | None, options: dict[str, str]) -> tuple[str, ...]:
    """Add the metadata of the input's frames to the encoder's options; returns what is left out."""
    if source is None:
        return ()
    settings, lost = encoder_settings(encoder, source.frame_metadata)
    for name, value in settings.items():
        options[name] = ":".join(filter(None, [options.get(name), value]))
    return tuple(lost)


def _lossless(path: Path, pixels: int, source: Clip | None, high_depth: bool, bit_depth: BitDepth) -> Coding:
    """Codecs of R'G'B', because Y'CbCr with as many bits cannot represent every R'G'B' colour."""
    color = replace(
        SRGB if source is None else source.color, matrix=0, full_range=True, bits=16 if high_depth else 8
    )
    if CONTAINERS[path.suffix.lower()] == "matroska":
        layout = "rgb48le" if high_depth else "bgr0"
        note = f"lossless FFV1, RGB, {color.bits} bits"
        options = {"level": "3", "slicecrc": "1", **_THREADS}
        return Coding("ffv1", layout, color, options, note, _add_metadata_options("ffv1", source, options))
    if bit_depth == 16:
        raise InputError(f"{path}: lossless video of 16 bits needs .mkv; end the name so, or take 8 bits")
    note = "lossless H.264, RGB, 8 bits, which few players show"
    options = {"qp": "0", "preset": "medium", **_THREADS, **STEADY_X264}
    _shorten_lookahead(pixels, options)
    lost = _add_metadata_options("libx264rgb", source, options)
    return Coding("libx264rgb", "rgb24", replace(color, bits=8), options, note, lost)
