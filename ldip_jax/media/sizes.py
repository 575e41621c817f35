"""Detects from a stream's packets that the size of its frames changes, before the frames are decoded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from av import CodecContext, Packet, VideoCodecContext

from ldip_jax.errors import InputError

# Types of the parameter sets that hold the size, and where a unit's header holds its type.
_SETS = {"h264": ({7}, 0, 0x1F), "hevc": ({33}, 1, 0x3F)}


class SizeCheck:
    """Decodes only packets whose parameter sets differ from those before.

    Formats with parameter sets in their packets are H.264 and H.265; others may say in a packet that it has
    another header.

    Args:
        path: named in errors.
        context: of the stream.
    """

    def __init__(self, path: Path, context: VideoCodecContext):
        self._path, self._context = path, context
        self._codec = context.codec.canonical_name
        self._size = (context.width, context.height)
        self._last: list[bytes] = []
        head = bytes(context.extradata or b"")
        self._length = 0
        if head[:1] == b"\1" and len(head) > 21:
            self._length = (head[4 if self._codec == "h264" else 21] & 3) + 1

    def check_packet(self, packet: Packet, number: int) -> None:
        """The next packet, that of frame `number`.

        Raises:
            InputError: it has another size.
        """
        if not packet.is_keyframe:
            return
        header = _new_header(packet)
        sets = list(self._sets(bytes(packet))) if self._codec in _SETS and header is None else []
        if header is None and (not sets or sets == self._last):
            return
        first, self._last = not self._last, sets
        if header is None and first and number == 0:
            return
        size = self._decoded_size(packet, header)
        if size is not None and self._size[0] and size != self._size:
            raise InputError(
                f"{self._path}: changes from {self._size[0]}x{self._size[1]} to {size[0]}x{size[1]} at frame"
                f" {number}; split the clip there"
            )

    def _sets(self, data: bytes) -> Iterator[bytes]:
        wanted, shift, mask = _SETS[self._codec]
        for unit in self._units(data):
            if unit and (unit[0] >> shift) & mask in wanted:
                yield unit

    def _units(self, data: bytes) -> Iterator[bytes]:
        if not self._length:
            yield from (unit.rstrip(b"\0") for unit in data.split(b"\0\0\1"))
            return
        place = 0
        while place + self._length < len(data):
            size = int.from_bytes(data[place : place + self._length], "big")
            place += self._length
            yield data[place : place + size]
            place += size

    def _decoded_size(self, packet: Packet, header: bytes | None) -> tuple[int, int] | None:
        """The size of the packet's frame; None if it cannot be decoded by itself."""
        decoder = CodecContext.create(self._context.name, "r")
        assert isinstance(decoder, VideoCodecContext)
        decoder.extradata = self._context.extradata if header is None else header
        decoder.thread_count = 1
        try:
            frames = [*decoder.decode(Packet(bytes(packet))), *decoder.decode(None)]
        except Exception:
            return None
        return (frames[0].width, frames[0].height) if frames else None


def _new_header(packet: Packet) -> bytes | None:
    if not packet.has_sidedata("new_extradata"):
        return None
    data: Any = packet.get_sidedata("new_extradata")
    return bytes(data)
