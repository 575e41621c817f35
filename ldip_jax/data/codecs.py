"""Codecs with which clips are compressed: frames are encoded and decoded again, in memory."""

import io
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av import VideoCodecContext, VideoFrame
from av.codec.codec import UnknownCodecError
from av.error import FFmpegError
from jaxtyping import UInt8
from PIL import Image

from ldip_jax.errors import InputError
from ldip_jax.media.coding import STEADY_X264
from ldip_jax.media.color import BT709, as_float, quantise
from ldip_jax.media.frames import FromRgb, ToRgb
from ldip_jax.media.muxer import DEFAULT_RATE

Frame = UInt8[np.ndarray, "h w 3"]
LAYOUT = "yuv420p"
PRESETS = ("veryfast", "faster", "fast", "medium", "slow")
DEFAULT_PRESET, DEFAULT_GOP = "medium", 250


def h264(
    frames: Iterable[Frame], crf: float, *, preset: str = DEFAULT_PRESET, gop: int = DEFAULT_GOP
) -> Iterator[Frame]:
    """Encode a clip with H.264 and decode it: libx264, 4:2:0, BT.709, 25 frames per second.

    Encoding uses one thread, so that the result does not depend on the machine. Frames of odd width or height
    are padded with a copy of the last column or row, which is removed again.

    Args:
        frames: the whole clip in order, all of one size: frames depend on those around them.
        crf: x264's rate factor, 0 to 51; larger is worse.
        preset: one of `PRESETS`.
        gop: the most frames from one intra-coded frame to the next.

    Returns:
        as many frames as are given, of the same size; some tens of frames are held in memory at a time.

    Raises:
        InputError: the installed av has no libx264, or libx264 does not accept such frames.
    """
    to_rgb = ToRgb(BT709, centred_chroma=False)
    size = (0, 0)
    try:
        for size, picture in _coded(frames, crf, preset, gop):
            yield quantise(to_rgb(picture)[: size[0], : size[1]], 8)
    except (FFmpegError, UnknownCodecError) as error:
        raise InputError(
            f"H.264 of {size[1]}x{size[0]} frames: cannot be encoded ({error}); install av with libx264"
        ) from error


def _coded(
    frames: Iterable[Frame], crf: float, preset: str, gop: int
) -> Iterator[tuple[tuple[int, int], VideoFrame]]:
    """Decoded pictures, with the (height, width) of the frames that they come from."""
    encoder, decoder, convert = None, VideoCodecContext.create("h264", "r"), FromRgb(BT709, LAYOUT)
    size = (0, 0)
    for number, frame in enumerate(frames):
        if encoder is None:
            size = frame.shape[:2]
            encoder = _encoder(size[0] + size[0] % 2, size[1] + size[1] % 2, crf, preset, gop)
        picture = convert(as_float(np.pad(frame, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), "edge")))
        picture.pts, picture.time_base = number, 1 / DEFAULT_RATE
        for packet in encoder.encode(picture):
            yield from ((size, coded) for coded in decoder.decode(packet))
    if encoder is not None:
        # None flushes the decoder: it returns the pictures that it still holds.
        for packet in [*encoder.encode(None), None]:
            yield from ((size, coded) for coded in decoder.decode(packet))


def _encoder(height: int, width: int, crf: float, preset: str, gop: int) -> VideoCodecContext:
    encoder = VideoCodecContext.create("libx264", "w")
    encoder.height, encoder.width, encoder.pix_fmt = height, width, LAYOUT
    encoder.framerate, encoder.time_base = DEFAULT_RATE, Fraction(1, DEFAULT_RATE)
    encoder.colorspace, encoder.color_range = BT709.matrix, 1
    encoder.color_primaries, encoder.color_trc = BT709.primaries, BT709.transfer
    encoder.options = {"crf": f"{crf:g}", "preset": preset, "g": str(gop), "threads": "1"}
    encoder.options |= STEADY_X264
    return encoder


def jpeg(frame: Frame, quality: int) -> Frame:
    """Encode an image as JPEG with 4:2:0 chroma and decode it; `quality` is libjpeg's, 1 to 100."""
    data = io.BytesIO()
    Image.fromarray(frame).save(data, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(data).convert("RGB"))


@dataclass(frozen=True)
class Codec:
    """A codec with its setting, as the user writes it: `h264:CRF` or `jpeg:QUALITY`.

    Example:
        >>> str(parse_codec("h264:23.0"))
        'h264:23'
    """

    kind: str
    value: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.value:g}"

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Encode and decode a whole clip, given in order."""
        if self.kind == "h264":
            return h264(frames, self.value)
        return (jpeg(frame, round(self.value)) for frame in frames)


def parse_codec(text: str) -> Codec:
    """Read a codec as the user writes it; see `Codec`.

    Raises:
        InputError: an unknown codec, or a setting out of range.
    """
    kind, _, number = text.partition(":")
    ranges = {"h264": (0.0, 51.0), "jpeg": (1.0, 100.0)}
    if kind not in ranges:
        raise InputError(f"{text!r}: no such codec; choose h264:CRF, such as h264:23, or jpeg:QUALITY")
    lowest, highest = ranges[kind]
    with suppress(ValueError):
        if lowest <= float(number) <= highest and (kind == "h264" or float(number).is_integer()):
            return Codec(kind, float(number))
    setting = "a rate factor" if kind == "h264" else "a whole quality"
    raise InputError(f"{text!r}: {kind} takes {setting} from {lowest:g} to {highest:g}")
