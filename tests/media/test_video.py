"""Decoding video: colours, timing, orientation, and damaged files."""

import gc
import os
import struct
import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.media.color import Color
from ldip_jax.media.reader import open_clip
from tests.media.make import from_rgb, make_video, moving, smooth

NTSC = Fraction(24000, 1001)
CONTAINERS = ["a.mp4", "a.mov", "a.mkv", "a.avi", "a.mpg", "a.ts", "a.webm", "f.mp4", "a.flv", "a.m4v"]
CODECS = {
    ".avi": {"codec": "mpeg4", "options": {"b": "4000000"}},
    ".mpg": {"codec": "mpeg1video", "container": "mpeg", "options": {"b": "4000000"}},
    ".webm": {"codec": "libvpx-vp9", "options": {"crf": "10", "b": "0", "cpu-used": "8"}},
}


def make_named(path, frames, **options):
    more = dict(CODECS.get(path.suffix, {"options": {"crf": "8"}}))
    if path.name == "f.mp4":
        more["container_options"] = {"movflags": "frag_keyframe+empty_moov"}
        more["options"] = {"crf": "8", "g": "5"}
    return make_video(path, frames, **{**more, **options})


@pytest.mark.parametrize("name", CONTAINERS)
def test_all_frames_in_order_at_their_rate(tmp_path, rng, name):
    frames = moving(rng, 12, 48, 64)
    clip = open_clip(make_named(tmp_path / name, frames, rate=NTSC))
    assert (clip.kind, clip.height, clip.width, clip.count, clip.fps) == ("video", 48, 64, 12, NTSC)
    assert clip.names[0] == "00000000.png"
    assert clip.names[-1] == "00000011.png"
    assert clip.times is None
    decoded = list(clip)
    assert all(f.dtype == np.float32 and f.shape == (48, 64, 3) for f in decoded)
    for number, frame in enumerate(decoded):
        distances = [np.abs(frame - other).mean() for other in frames]
        assert np.argmin(distances) == number
        assert distances[number] < 6 / 255
    for again, frame in zip(clip, decoded, strict=True):
        np.testing.assert_array_equal(again, frame)


def test_one_frame_of_tiny_and_odd_sizes(tmp_path, rng):
    for height, width in ((8, 8), (2, 2), (53, 37), (1, 5)):
        layout = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        picture = smooth(rng, height, width)
        clip = open_clip(make_video(tmp_path / "a.mkv", [picture], codec="ffv1", layout=layout))
        assert (clip.count, clip.height, clip.width, clip.fps) == (1, height, width, 25)
        (frame,) = clip
        assert frame.shape == picture.shape


BARS = {
    # White, yellow, cyan, green, magenta, red, blue, black of full amplitude.
    6: "235 128 128  210 16 146  170 166 16  145 54 34  106 202 222  81 90 240  41 240 110  16 128 128",
    1: "235 128 128  219 16 138  188 154 16  173 42 26  78 214 230  63 102 240  32 240 118  16 128 128",
}
RGB = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0], [1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0]])


def bars(matrix, height=32, width=128):
    codes = np.array(BARS[matrix].split(), np.uint8).reshape(8, 3).T
    return codes.repeat(width // 8, axis=1)[:, None].repeat(height, axis=1)


@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("layout", ["yuv420p", "yuv444p"])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_bars_are_decoded_by_their_tags(tmp_path, matrix, layout, name):
    color = Color(matrix, primaries=matrix, transfer=matrix, full_range=False, bits=8)
    codec = {"codec": "ffv1"} if name == "a.mkv" else {"options": {"qp": "0"}}
    clip = open_clip(make_video(tmp_path / name, [bars(matrix)] * 2, layout=layout, color=color, **codec))
    assert clip.color == color
    assert clip.notes == []
    for frame in clip:
        np.testing.assert_allclose(frame[:, 8::16], np.broadcast_to(RGB, (32, 8, 3)), atol=1.2 / 255)


@pytest.mark.parametrize(("size", "matrix"), [((480, 640), 6), ((720, 1280), 1)])
def test_untagged_bars_are_decoded_by_their_size(tmp_path, size, matrix):
    clip = open_clip(make_video(tmp_path / "a.mkv", [bars(matrix, *size)], codec="ffv1"))
    assert clip.color.matrix == matrix
    assert "is assumed from its size" in clip.assumptions[0]
    (frame,) = clip
    centres = frame[100, size[1] // 16 :: size[1] // 8]
    np.testing.assert_allclose(centres, RGB, atol=1.2 / 255)


def test_full_range_is_respected(tmp_path):
    planes = np.full((3, 16, 32), 128, np.uint8)
    planes[0] = np.linspace(0, 255, 32).astype(np.uint8)
    color = Color(1, 1, 1, full_range=True, bits=8)
    clip = open_clip(make_video(tmp_path / "a.mp4", [planes], color=color, options={"qp": "0"}))
    assert clip.color.full_range
    (frame,) = clip
    np.testing.assert_allclose(frame[4, :, 1] * 255, planes[0, 4], atol=0.6)


def test_ten_bits_are_kept(tmp_path):
    planes = np.full((3, 16, 876), 512, np.uint16)
    planes[0] = np.arange(64, 940)
    clip = open_clip(
        make_video(
            tmp_path / "a.mkv", [planes], codec="ffv1", layout="yuv420p10le", color=Color(1, 1, 1, False, 10)
        )
    )
    assert clip.color.bits == 10
    (frame,) = clip
    assert len(np.unique(frame[0])) == 876
    np.testing.assert_allclose(frame[0, :, 0], np.arange(876) / 876, atol=1e-5)


def test_high_dynamic_range_and_an_unknown_matrix(tmp_path, rng):
    planes = np.full((3, 16, 16), 512, np.uint16)
    options = {"codec": "ffv1", "layout": "yuv420p10le"}
    hdr = make_video(tmp_path / "a.mkv", [planes], color=Color(9, 9, 16, False, 10), **options)
    assert any("PQ" in note for note in open_clip(hdr).notes)
    odd = make_video(tmp_path / "b.mkv", [planes], color=Color(14, 9, 18, False, 10), **options)
    with pytest.raises(InputError, match="colour matrix"):
        open_clip(odd)


def test_interlaced_video_is_reported(tmp_path, rng):
    frames = moving(rng, 4, 64, 64)
    path = make_video(tmp_path / "a.mp4", frames, options={"x264-params": "tff=1", "flags": "+ilme+ildct"})
    clip = open_clip(path)
    assert any("interlaced" in note for note in clip.notes)
    assert len(list(clip)) == 4


def test_alpha_in_a_video(tmp_path, rng):
    clip = open_clip(make_video(tmp_path / "a.mkv", moving(rng, 2, 16, 16), codec="ffv1", layout="yuva420p"))
    assert "alpha dropped" in clip.notes
    assert next(iter(clip)).shape == (16, 16, 3)


def write_display_matrix(path, a, b, c, d):
    """Write a display matrix into the track header of an MP4."""
    data = bytearray(path.read_bytes())
    place = data.find(b"tkhd") + 4 + 40
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    data[place : place + 36] = matrix
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ((1, 0, 0, 1), lambda x: x),
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),
        ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
        ((0, -1, 1, 0), lambda x: np.rot90(x)),
        ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
        ((1, 0, 0, -1), lambda x: x[::-1]),
        ((0, 1, 1, 0), lambda x: x.swapaxes(0, 1)),
    ],
)
def test_the_display_matrix_is_applied(tmp_path, rng, matrix, upright):
    path = make_video(tmp_path / "a.mp4", [smooth(rng, 32, 48)], aspect=Fraction(16, 15))
    (plain,) = open_clip(path)
    write_display_matrix(path, *matrix)
    clip = open_clip(path)
    (frame,) = clip
    np.testing.assert_array_equal(frame, upright(plain))
    assert frame.shape == (clip.height, clip.width, 3)
    assert frame.flags.c_contiguous
    assert clip.sample_aspect == (Fraction(15, 16) if matrix[0] == 0 else Fraction(16, 15))
    assert clip.notes == ([] if matrix == (1, 0, 0, 1) else ["turned upright as its display matrix says"])


def test_variable_frame_rate_keeps_times(tmp_path, rng):
    times = [Fraction(t, 1000) for t in (0, 40, 80, 200, 240, 600, 640)]
    for name in ("a.mp4", "a.mkv"):
        clip = open_clip(make_video(tmp_path / name, moving(rng, 7, 32, 32), stamps=times))
        assert clip.times == times
        assert clip.fps == Fraction(6, Fraction(640, 1000))
        assert any("variable frame rate" in note for note in clip.notes)
        assert len(list(clip)) == 7


@pytest.mark.parametrize(
    "rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(25), Fraction(60), Fraction(12)]
)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_rounded_timestamps_are_a_constant_rate(tmp_path, rng, rate, name):
    clip = open_clip(make_video(tmp_path / name, [np.zeros((16, 16, 3), np.float32)] * 90, rate=rate))
    assert (clip.fps, clip.times, clip.count) == (rate, None, 90)


def test_the_start_time_is_read(tmp_path, rng):
    clip = open_clip(make_video(tmp_path / "a.mkv", moving(rng, 3, 32, 32), start=Fraction(1, 2)))
    assert clip.start == Fraction(1, 2)
    assert clip.times is None


def refused(path, *words):
    with pytest.raises(InputError) as caught:
        for _ in open_clip(path):
            pass
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("name", [n for n in CONTAINERS if n not in ("a.ts", "a.flv")])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
def test_truncated_files_are_refused(tmp_path, rng, name, part):
    path = make_named(tmp_path / name, list(rng.random((25, 48, 64, 3), dtype=np.float32)))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    refused(path)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_truncated_files_with_the_index_in_front_are_refused(tmp_path, rng, part):
    frames = list(rng.random((25, 48, 64, 3), dtype=np.float32))
    path = make_video(tmp_path / "a.mp4", frames, container_options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    refused(path, "at frame")


def test_files_truncated_between_two_packets_are_refused(tmp_path, rng):
    frames = list(rng.random((25, 48, 64, 3), dtype=np.float32))
    path = make_video(
        tmp_path / "a.mp4", frames, container_options={"movflags": "faststart"}, options={"bf": "0"}
    )

    with av.open(str(path)) as container:
        ends = [p.pos + p.size for p in container.demux(container.streams.video[0]) if p.size]
    path.write_bytes(path.read_bytes()[: ends[11]])
    refused(path, "at frame 12")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.mpg"])
def test_files_overwritten_in_the_middle_are_refused(tmp_path, rng, name):
    path = make_named(tmp_path / name, list(rng.random((25, 48, 64, 3), dtype=np.float32)))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 10] = bytes(len(data) // 10)
    path.write_bytes(data)
    refused(path, "frame")


def test_an_edit_list_is_not_damage(tmp_path, rng):
    """A trimmed file, as phones write it: the list shows only a part of what is stored."""
    path = make_video(tmp_path / "a.mp4", moving(rng, 20, 32, 32), options={"g": "5", "bf": "0"}, sound=0.8)
    data = bytearray(path.read_bytes())
    place = data.find(b"elst") + 4
    _, count, _, media = struct.unpack(">IIII", data[place : place + 16])
    assert count == 1
    data[place : place + 16] = struct.pack(">IIII", 0, 1, 400, media + 7 * 512)
    path.write_bytes(data)
    clip = open_clip(path)
    assert clip.count == len(list(clip))
    assert 9 <= clip.count <= 11


def test_a_stream_that_starts_midway(tmp_path, rng):
    """Part of a broadcast: packets before the first key frame cannot be decoded."""
    path = make_video(
        tmp_path / "a.ts", moving(rng, 30, 64, 64), options={"g": "10", "bf": "0", "sc_threshold": "0"}
    )
    data = path.read_bytes()
    path.write_bytes(data[: 188 * 3] + data[188 * (len(data) // 188 // 4) :])
    clip = open_clip(path)
    frames = list(clip)
    assert 10 <= len(frames) < 30
    assert clip.count is None or clip.count == len(frames)


def test_memory_does_not_grow_with_length(tmp_path, rng):
    frames = moving(rng, 5, 120, 160)
    path = make_video(tmp_path / "a.mp4", frames * 40)
    clip = open_clip(path)
    assert clip.count == 200
    tracemalloc.start()
    peaks = []
    for number, _ in enumerate(clip):
        if number in (20, 199):
            gc.collect()
            peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peaks[1] < peaks[0] + 3 * frames[0].nbytes


def test_stopping_early_closes_the_file(tmp_path, rng):
    clip = open_clip(make_video(tmp_path / "a.mp4", moving(rng, 5, 32, 32)))
    before = len(os.listdir("/dev/fd"))
    frames = clip.frames()
    next(frames)
    assert len(os.listdir("/dev/fd")) > before
    frames.close()
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4"])
def test_a_change_of_size_is_reported_when_a_file_is_opened(tmp_path, rng, suffix):
    """In one stream and on one clock, as live encoders write it."""
    path, number, stream = tmp_path / f"a{suffix}", 0, None
    with av.open(str(path), "w") as output:
        for height, width in ((32, 48), (64, 96)):
            encoder = av.VideoCodecContext.create("libx264", "w")
            contexts = [encoder]
            if stream is None:
                stream = output.add_stream("libx264", rate=25)
                contexts.append(stream.codec_context)
            for context in contexts:
                context.height, context.width, context.pix_fmt = height, width, "yuv420p"
                context.framerate, context.time_base = Fraction(25), Fraction(1, 25)
            output.start_encoding()
            for pixels in moving(rng, 5, height, width):
                frame = from_rgb(pixels, "yuv420p")
                frame.pts, number = number, number + 1
                coded = list(encoder.encode(frame))
                for packet in [*coded, *(encoder.encode(None) if number in (5, 10) else [])]:
                    again = av.Packet(bytes(packet))
                    again.stream, again.time_base = stream, Fraction(1, 25)
                    again.pts, again.dts, again.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
                    output.mux(again)
    with pytest.raises(InputError, match=r"changes from 48x32 to 96x64 at frame 5; split the clip there"):
        open_clip(path)
