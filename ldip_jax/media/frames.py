"""Frames of the media library to arrays and back.

Only the resampling of chroma and the unpacking of odd layouts are left to the library's scaler, with the
positions of chroma spelled out: its defaults place the chroma of MPEG-2 and later half a pixel off, and its
own colour matrices lose the bits of 10-bit video.
"""

import sys
from fractions import Fraction

import numpy as np
from av import VideoFormat, VideoFrame
from av.filter import Graph
from av.video.plane import VideoPlane
from jaxtyping import Float, Shaped

from ldip_jax.media.color import Color, quantise, rgb_to_yuv, yuv_to_rgb

_DEPTHS = (8, 9, 10, 12, 14, 16)
_FLAGS = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"


def bits_of(layout: VideoFormat) -> int:
    """Bits of a sample, rounded up to a depth that exists as planes."""
    bits = max(component.bits for component in layout.components)
    return next((depth for depth in _DEPTHS if depth >= bits), 16)


def is_rgb(layout: VideoFormat) -> bool:
    return layout.is_rgb or layout.has_palette or layout.name.startswith("mono")


def is_grey(layout: VideoFormat) -> bool:
    return layout.name.startswith(("gray", "ya"))


def plane_view(plane: VideoPlane, dtype: str, channels: int = 1) -> Shaped[np.ndarray, "h w"]:
    """The samples of a plane, without the padding at the end of its rows; shares memory with it."""
    rows = np.asarray(memoryview(plane)).reshape(-1, plane.line_size)[: plane.height]
    return rows.view(dtype)[:, : plane.width * channels]


def _planar(family: str, bits: int) -> str:
    return family if bits == 8 else f"{family}{bits}le"


def _dtype(bits: int) -> str:
    return "u1" if bits == 8 else "<u2"


class _LayoutConverter:
    """Changes the layout of Y'CbCr or R'G'B' frames and nothing else.

    Args:
        frame: a frame like those to come.
        target: name of the new layout.
        full_range: the codes' range, which stays.
        options: of the scaler, such as the position of chroma.
    """

    def __init__(self, frame: VideoFrame, target: str, full_range: bool, options: str):
        self.source = (frame.width, frame.height, frame.format.name)
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
        )
        span = "pc" if full_range else "tv"
        # Any matrix does, as long as it is the same: tagged frames would be converted to the default one.
        same = f"in_color_matrix=bt709:out_color_matrix=bt709:in_range={span}:out_range={span}"
        scale = self._graph.add("scale", ":".join(filter(None, [_FLAGS, same, options])))
        last = self._graph.add("format", target)
        self._graph.link_nodes(source, scale, last, self._graph.add("buffersink")).configure()

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        self._graph.push(frame)
        return self._graph.vpull()


class ToRgb:
    """Decoded frames as float32 R'G'B' in [0, 1].

    Args:
        color: the coding of the frames; its matrix is known.
        centred_chroma: subsampled chroma sits between luma pixels (MPEG-1, JPEG), not on every second one.
    """

    def __init__(self, color: Color, centred_chroma: bool):
        self._color = color
        self._chroma = "center" if centred_chroma else "left"
        self._layout: _LayoutConverter | None = None

    def __call__(self, frame: VideoFrame) -> Float[np.ndarray, "h w 3"]:
        bits = bits_of(frame.format)
        if is_rgb(frame.format):
            planes = self._convert_layout(frame, _planar("gbrp", bits), "").planes[:3]
            g, b, r = (plane_view(plane, _dtype(bits)) for plane in planes)
            return np.stack([r, g, b], axis=-1).astype(np.float32) / np.float32((1 << bits) - 1)
        if is_grey(frame.format):
            luma = plane_view(self._convert_layout(frame, _planar("gray", bits), "").planes[0], _dtype(bits))
            return yuv_to_rgb([luma, *[np.full_like(luma, 1 << (bits - 1))] * 2], self._color)
        options = f"interl=-1:in_chroma_loc={self._chroma}"
        planes = self._convert_layout(frame, _planar("yuv444p", bits), options).planes[:3]
        return yuv_to_rgb([plane_view(plane, _dtype(bits)) for plane in planes], self._color)

    def _convert_layout(self, frame: VideoFrame, target: str, options: str) -> VideoFrame:
        if frame.format.name == target:
            return frame
        if self._layout is None or self._layout.source != (frame.width, frame.height, frame.format.name):
            self._layout = _LayoutConverter(frame, target, self._color.full_range, options)
        return self._layout(frame)


class FromRgb:
    """R'G'B' frames in the layout of an encoder.

    Args:
        color: the coding to produce; `matrix` 0 keeps R'G'B', as exact codes of 8 or 16 bits.
        layout: name of the encoder's pixel layout: packed R'G'B' for matrix 0, else Y'CbCr 4:4:4 or 4:2:0.
    """

    def __init__(self, color: Color, layout: str):
        self._color = color
        self._target = layout
        self._layout: _LayoutConverter | None = None

    def __call__(self, rgb: Float[np.ndarray, "h w 3"]) -> VideoFrame:
        bits = self._color.bits
        if self._color.matrix == 0:
            packed = "rgb24" if bits == 8 else "rgb48le" if sys.byteorder == "little" else "rgb48be"
            return self._convert_layout(VideoFrame.from_ndarray(quantise(rgb, bits), packed), "")
        frame = VideoFrame(rgb.shape[1], rgb.shape[0], _planar("yuv444p", bits))
        for plane, codes in zip(frame.planes, rgb_to_yuv(rgb, self._color), strict=True):
            plane_view(plane, _dtype(bits))[...] = codes
        return self._tag(self._convert_layout(frame, "out_chroma_loc=left"))

    def _tag(self, frame: VideoFrame) -> VideoFrame:
        if self._color.matrix:
            frame.color_range = 2 if self._color.full_range else 1
            frame.colorspace = self._color.matrix
            # Some encoders, such as that of ProRes, look at frames only.
            frame.color_primaries, frame.color_trc = self._color.primaries, self._color.transfer
        return frame

    def _samples(self, frame: VideoFrame) -> list[Shaped[np.ndarray, "h w"]]:
        packed = {"rgb24": 3, "bgr0": 4, "rgb48le": 3}.get(self._target, 1)
        dtype = "<u2" if self._target.endswith("le") else "u1"
        return [plane_view(plane, dtype, packed) for plane in frame.planes]

    def to_bytes(self, frame: VideoFrame) -> bytes:
        """The samples of a converted frame."""
        return b"".join(samples.tobytes() for samples in self._samples(frame))

    def from_bytes(self, data: bytes, height: int, width: int) -> VideoFrame:
        """The frame of which these are the samples."""
        frame = VideoFrame(width, height, self._target)
        begin = 0
        for samples in self._samples(frame):
            piece = np.frombuffer(data, samples.dtype, samples.size, begin)
            samples[...] = piece.reshape(samples.shape)
            begin += samples.nbytes
        return self._tag(frame)

    def _convert_layout(self, frame: VideoFrame, options: str) -> VideoFrame:
        if frame.format.name == self._target:
            return frame
        if self._layout is None:
            self._layout = _LayoutConverter(frame, self._target, self._color.full_range, options)
        return self._layout(frame)
