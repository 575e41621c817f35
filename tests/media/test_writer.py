"""What `open_writer` writes, and what it refuses."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from ldip_jax.errors import InputError
from ldip_jax.media.color import Color
from ldip_jax.media.outputs import check_output
from ldip_jax.media.reader import open_clip
from ldip_jax.media.writer import open_writer
from tests.media.make import make_video, moving, smooth, write

NTSC = Fraction(24000, 1001)


def tags(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        next(container.decode(stream))
        context = stream.codec_context
        span = 2 if int(context.color_range) == 2 else 1
        return int(context.colorspace), int(context.color_primaries), int(context.color_trc), span


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv"])
@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("size", [(48, 64), (53, 75)])
def test_h264_and_h265(tmp_path, rng, suffix, codec, size):
    frames = moving(rng, 5, *size)
    path = tmp_path / f"a{suffix}"
    writer = write(path, frames, fps=NTSC, codec=codec, crf=4)
    clip = open_clip(path)
    assert (clip.count, clip.fps, clip.height, clip.width) == (5, NTSC, *size)
    assert clip.notes == []
    for frame, expected in zip(clip, frames, strict=True):
        assert np.abs(frame - expected).mean() < 2.5 / 255
        assert np.abs((frame - expected).mean((0, 1))).max() < 1 / 255
    assert any("4:4:4" in note for note in writer.notes) == (size == (53, 75))
    with av.open(str(path)) as container:
        assert (
            container.streams.video[0].codec_context.codec.canonical_name
            == {"h264": "h264", "h265": "hevc"}[codec]
        )
        if codec == "h265" and suffix != ".mkv":
            assert container.streams.video[0].codec_tag == "hvc1"


@pytest.mark.parametrize("size", [(8, 8), (2, 2), (1, 1), (16, 3)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("lossless", [False, True])
def test_one_frame_of_small_sizes(tmp_path, rng, size, name, lossless):
    frame = np.full((*size, 3), 0.5, np.float32)
    write(tmp_path / name, [frame], lossless=lossless)
    clip = open_clip(tmp_path / name)
    assert (clip.count, clip.height, clip.width) == (1, *size)
    np.testing.assert_allclose(next(iter(clip)), frame, atol=2.5 / 255)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
@pytest.mark.parametrize("size", [(37, 53), (48, 64)])
def test_lossless_is_exact(tmp_path, rng, name, size):
    codes = rng.integers(0, 256, (4, *size, 3))
    writer = write(tmp_path / name, list(codes.astype(np.float32) / np.float32(255)), lossless=True, fps=NTSC)
    clip = open_clip(tmp_path / name)
    np.testing.assert_array_equal(np.rint(np.stack(list(clip)) * 255), codes)
    assert (clip.fps, clip.count) == (NTSC, 4)
    assert "lossless" in writer.notes[0]


def test_lossless_16_bits(tmp_path, rng):
    codes = rng.integers(0, 65536, (3, 20, 24, 3))
    frames = list(codes.astype(np.float32) / np.float32(65535))
    write(tmp_path / "a.mkv", frames, lossless=True, bit_depth=16)
    np.testing.assert_array_equal(np.rint(np.stack(list(open_clip(tmp_path / "a.mkv"))) * 65535), codes)
    with pytest.raises(InputError, match=r"needs \.mkv"):
        write(tmp_path / "a.mp4", frames, lossless=True, bit_depth=16)


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_bit_depth_16_gives_video_of_ten_bits(tmp_path, codec):
    ramp = np.linspace(0.2, 0.4, 256, dtype=np.float32)
    frame = np.broadcast_to(ramp[None, :, None], (64, 256, 3)).copy()
    write(tmp_path / "a.mp4", [frame], bit_depth=16, crf=0, codec=codec)
    clip = open_clip(tmp_path / "a.mp4")
    assert clip.color.bits == 10
    (decoded,) = clip
    assert np.abs(decoded - frame).mean() < 0.5 / 255
    assert len(np.unique(np.rint(decoded[32, :, 1] * 1023))) > 120


@pytest.mark.parametrize("matrix", [1, 5, 6, 9])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_colours_and_tags_are_kept_when_a_clip_grows(tmp_path, rng, matrix, full, codec):
    color = Color(matrix, primaries=matrix, transfer=1, full_range=full, bits=8)
    flat = rng.integers(60, 180, (3, 1, 4)).astype(np.uint8).repeat(48, axis=1).repeat(16, axis=2)
    source = open_clip(make_video(tmp_path / "in.mp4", [flat] * 2, color=color, options={"qp": "0"}))
    # High enough for HD by itself, so that it need not be wide.
    large = [np.kron(frame, np.ones((16, 5, 1), np.float32)) for frame in source]
    assert large[0].shape[0] > 720
    write(tmp_path / "out.mp4", large, source=source, crf=1, codec=codec)
    assert tags(tmp_path / "out.mp4") == tags(tmp_path / "in.mp4") == (matrix, matrix, 1, 2 if full else 1)
    clip = open_clip(tmp_path / "out.mp4")
    assert clip.color == color
    for frame, expected in zip(clip, large, strict=True):
        patches = (frame - expected).reshape(768, 4, 80, 3)[:, :, 10:-10].mean((0, 2))
        assert np.abs(patches).mean(0).max() < 1 / 255


def test_colours_of_an_untagged_sd_clip_do_not_shift_in_hd(tmp_path, rng):
    flat = np.broadcast_to(np.array([81, 90, 240], np.uint8)[:, None, None], (3, 48, 64))
    source = open_clip(make_video(tmp_path / "in.mp4", [flat], options={"qp": "0"}))
    (small,) = source
    write(tmp_path / "out.mkv", [np.kron(small, np.ones((20, 20, 1), np.float32))], source=source)
    (frame,) = open_clip(tmp_path / "out.mkv")
    np.testing.assert_allclose(frame.mean((0, 1)), [1, 0, 0], atol=1.5 / 255)
    assert tags(tmp_path / "out.mkv")[0] == 6


def test_rgb_and_images_become_bt709(tmp_path, rng):
    source = open_clip(make_video(tmp_path / "in.mkv", moving(rng, 2, 32, 32), codec="ffv1", layout="bgr0"))
    assert source.color.matrix == 0
    write(tmp_path / "out.mp4", list(source), source=source)
    assert tags(tmp_path / "out.mp4") == (1, 1, 1, 1)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    writer = write(tmp_path / "b.mp4", list(source), source=open_clip(tmp_path / "a.png"))
    assert tags(tmp_path / "b.mp4") == (1, 1, 1, 1)
    assert "25 frames per second, since images have no frame rate" in writer.notes
    assert open_clip(tmp_path / "b.mp4").fps == 25


def test_lossless_keeps_the_colour_tags(tmp_path):
    color = Color(9, primaries=9, transfer=16, full_range=False, bits=10)
    planes = np.full((3, 16, 16), 512, np.uint16)
    source = open_clip(
        make_video(tmp_path / "in.mkv", [planes], codec="ffv1", layout="yuv420p10le", color=color)
    )
    writer = write(tmp_path / "out.mkv", list(source), source=source, lossless=True)
    assert tags(tmp_path / "out.mkv")[1:3] == (9, 16)
    assert open_clip(tmp_path / "out.mkv").color.bits == 16
    assert not any("reduced" in note for note in writer.notes)
    writer = write(tmp_path / "out.mp4", list(source), source=source, lossless=True)
    assert "10 bits reduced to 8" in writer.notes


@pytest.mark.parametrize("layout", ["yuv420p", "yuv420p10le", "yuv420p12le"])
def test_auto_keeps_ten_bits(tmp_path, layout):
    bits = {"yuv420p": 8, "yuv420p10le": 10, "yuv420p12le": 12}[layout]
    planes = np.full((3, 64, 64), 1 << (bits - 1), np.uint8 if bits == 8 else np.uint16)
    color = Color(1, 1, 1, full_range=False, bits=bits)
    path = make_video(tmp_path / "in.mkv", [planes] * 2, codec="ffv1", layout=layout, color=color)
    source = open_clip(path)
    writer = write(tmp_path / "a.mp4", list(source), source=source)
    assert open_clip(tmp_path / "a.mp4").color.bits == min(bits, 10)
    assert ("12 bits reduced to 10" in writer.notes) == (bits == 12)
    writer = write(tmp_path / "b.mp4", list(source), source=source, bit_depth=8)
    assert open_clip(tmp_path / "b.mp4").color.bits == 8
    assert (f"{bits} bits reduced to 8" in writer.notes) == (bits > 8)
    write(tmp_path / "c", list(source), source=source)
    assert open_clip(tmp_path / "c").color.bits == 8


CODECS = {
    "vp9": ("vp9", (".mp4", ".m4v", ".mkv")),
    "av1": ("av1", (".mp4", ".m4v", ".mkv")),
    "prores": ("prores", (".mov", ".mkv")),
    "ffv1": ("ffv1", (".mkv",)),
}


@pytest.mark.parametrize(("codec", "suffix"), [(c, s) for c, (_, all_of) in CODECS.items() for s in all_of])
@pytest.mark.parametrize("size", [(64, 96), (53, 75)])
@pytest.mark.parametrize("deep", [False, True])
def test_every_codec_in_every_container(tmp_path, rng, codec, suffix, size, deep):
    frames = moving(rng, 5, *size)
    path = tmp_path / f"a{suffix}"
    if codec == "vp9" and deep:
        refused(path, "bit depth 16: VP9 has 8 bits", bit_depth=16, codec=codec)
        return
    if codec == "av1" and size[0] % 2:
        refused(path, "AV1 needs even sides", height=53, width=75, codec=codec)
        return
    write(path, frames, fps=NTSC, codec=codec, bit_depth=16 if deep else "auto")
    clip = open_clip(path)
    assert (clip.count, clip.fps, clip.height, clip.width) == (5, NTSC, *size)
    # Decoders give 12 bits of ProRes 4444.
    prores = 12 if size[0] % 2 else 10
    bits = {"ffv1": 16 if deep else 8, "prores": prores}.get(codec, 10 if deep else 8)
    assert clip.color.bits == bits
    assert tags(path)[:3] == ((2, 1, 13) if codec == "ffv1" else (1, 1, 1))
    for frame, expected in zip(clip, frames, strict=True):
        assert np.abs(frame - expected).mean() < 3 / 255
    with av.open(str(path)) as container:
        name = container.streams.video[0].codec_context.codec.canonical_name
    assert name == CODECS[codec][0]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_the_pixel_aspect_ratio(tmp_path, rng, name):
    source = open_clip(make_video(tmp_path / "in.mp4", [smooth(rng, 48, 60)], aspect=Fraction(16, 15)))
    write(tmp_path / name, [smooth(rng, 96, 120)], source=source)
    assert open_clip(tmp_path / name).sample_aspect == Fraction(16, 15)
    write(tmp_path / name, [smooth(rng, 48, 64)], source=source, overwrite=True)
    assert open_clip(tmp_path / name).sample_aspect == 1
    square = open_clip(make_video(tmp_path / "sq.mp4", [smooth(rng, 48, 64)]))
    write(tmp_path / name, [smooth(rng, 48, 72)], source=square, overwrite=True)
    assert open_clip(tmp_path / name).sample_aspect == 1


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_the_timing_of_the_input_is_kept(tmp_path, rng, name):
    frames = moving(rng, 7, 32, 32)
    times = [Fraction(t, 1000) for t in (0, 40, 80, 200, 240, 600, 640)]
    uneven = open_clip(make_video(tmp_path / "in.mkv", frames, stamps=times))
    write(tmp_path / name, frames, source=uneven)
    assert open_clip(tmp_path / name).times == times
    even = open_clip(make_video(tmp_path / "ntsc.mp4", frames, rate=NTSC))
    write(tmp_path / name, frames, source=even, overwrite=True)
    clip = open_clip(tmp_path / name)
    assert (clip.fps, clip.times, clip.count) == (NTSC, None, 7)
    with av.open(str(tmp_path / name)) as container:
        assert container.duration / 1e6 == pytest.approx(7 / NTSC, abs=0.002)
    write(tmp_path / name, frames, source=even, fps=Fraction(50), overwrite=True)
    assert open_clip(tmp_path / name).fps == 50


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
@pytest.mark.parametrize("stamps", [None, [Fraction(t, 1000) for t in (0, 40, 80, 200, 240, 600, 640)]])
def test_the_last_frame_shows_as_long_as_in_the_input(tmp_path, rng, name, stamps):
    frames = moving(rng, 7, 32, 32)
    begun = Fraction(6, 25) if stamps is None else stamps[-1]
    for source in ("in.mkv", "in.mp4"):
        held = open_clip(make_video(tmp_path / source, frames, stamps=stamps, hold=Fraction(2)))
        assert held.hold == pytest.approx(2, abs=0.001)
        write(tmp_path / name, frames, source=held, overwrite=True)
        with av.open(str(tmp_path / name)) as container:
            assert container.duration / 1e6 == pytest.approx(begun + 2, abs=0.002)
    write(tmp_path / name, frames, source=held, fps=Fraction(50), overwrite=True)
    with av.open(str(tmp_path / name)) as container:
        assert container.duration / 1e6 == pytest.approx(7 / 50, abs=0.002)


def test_a_folder_of_png_takes_the_names_of_the_input(tmp_path, rng):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("x.jpg", "y.bmp"):
        Image.new("RGB", (8, 6)).save(source / name)
    codes = rng.integers(0, 256, (2, 12, 16, 3))
    write(
        tmp_path / "deep" / "er" / "out",
        list(codes.astype(np.float32) / np.float32(255)),
        source=open_clip(source),
    )
    out = open_clip(tmp_path / "deep" / "er" / "out")
    assert out.names == ["x.png", "y.png"]
    np.testing.assert_array_equal(np.rint(np.stack(list(out)) * 255), codes)
    assert sorted(os.listdir(tmp_path / "deep" / "er" / "out")) == ["x.png", "y.png"]


def test_a_folder_of_png_of_16_bits(tmp_path, rng):
    codes = rng.integers(0, 65536, (3, 6, 8, 3))
    writer = write(tmp_path / "out", list(codes.astype(np.float32) / np.float32(65535)), bit_depth=16)
    out = open_clip(tmp_path / "out")
    assert out.names == ["00000000.png", "00000001.png", "00000002.png"]
    np.testing.assert_array_equal(np.rint(np.stack(list(out)) * 65535), codes)
    assert writer.notes == ["PNG, 16 bits"]


def test_one_png_holds_one_frame(tmp_path, rng):
    frames = moving(rng, 2, 6, 8)
    write(tmp_path / "new" / "a.png", frames[:1])
    assert open_clip(tmp_path / "new" / "a.png").count == 1
    with pytest.raises(InputError, match="one image holds one frame only"):
        write(tmp_path / "b.png", frames)
    clip = open_clip(make_video(tmp_path / "v.mp4", moving(rng, 3, 32, 32)))
    with pytest.raises(InputError, match="one image holds one frame only"):
        open_writer(tmp_path / "b.png", height=32, width=32, source=clip)
    assert sorted(os.listdir(tmp_path)) == ["new", "v.mp4"]


def refused(path, *words, **options):
    with pytest.raises(InputError) as caught:
        open_writer(path, **{"height": 8, "width": 8, **options})
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_invalid_settings_are_refused(tmp_path):
    for suffix in (".avi", ".webm", ".ts", ".gif", ".jpg", ".tiff"):
        refused(tmp_path / f"a{suffix}", f"a{suffix}", suffix, "not written")
    refused(tmp_path / "a.mp4", "crf 60", crf=60)
    refused(tmp_path / "a.mp4", "crf -1", crf=-1)
    refused(tmp_path / "a.mp4", "codec mpeg2", codec="mpeg2")
    for codec, wrong in (
        ("vp9", ".mov"),
        ("av1", ".mov"),
        ("prores", ".mp4"),
        ("ffv1", ".mp4"),
        ("ffv1", ".mov"),
    ):
        refused(tmp_path / f"a{wrong}", f"a{wrong}", "is written to", "or take another codec", codec=codec)
    refused(tmp_path / "a.mp4", "crf 64", "63", crf=64, codec="vp9")
    refused(tmp_path / "a.mov", "ProRes has no quality setting", crf=18, codec="prores")
    refused(tmp_path / "a.mov", "bit depth 8: ProRes has 10 bits", bit_depth=8, codec="prores")
    refused(tmp_path / "a.mp4", "H.265 needs", width=63, codec="h265")
    refused(tmp_path / "a.mp4", "bit depth 12", bit_depth=12)
    refused(tmp_path / "a", "bit depth 12", bit_depth=12)
    assert list(tmp_path.iterdir()) == []


def test_existing_outputs_are_replaced_only_on_request(tmp_path, rng):
    frames = moving(rng, 2, 32, 32)
    (tmp_path / "a.mp4").write_bytes(b"precious")
    refused(tmp_path / "a.mp4", "a.mp4: exists already", "--overwrite")
    assert (tmp_path / "a.mp4").read_bytes() == b"precious"
    write(tmp_path / "a.mp4", frames, overwrite=True)
    assert open_clip(tmp_path / "a.mp4").count == 2
    (tmp_path / "b.mp4").mkdir()
    refused(tmp_path / "b.mp4", "is a folder", overwrite=True)
    (tmp_path / "file").write_bytes(b"x")
    refused(tmp_path / "file", "is a file, but a folder is needed", overwrite=True)
    refused("/dev/null", "is a file", overwrite=True)
    os.symlink("/dev/full", tmp_path / "null.mp4")
    refused(tmp_path / "null.mp4", "not a regular file", overwrite=True)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.png", "folder"])
def test_the_target_of_a_linked_output_is_replaced(tmp_path, rng, name):
    """The link stays, and the new file takes the place of its target."""
    frames = moving(rng, 1, 32, 32)
    (tmp_path / "disk").mkdir()
    target = tmp_path / "disk" / name
    write(target, frames)
    os.symlink(target, tmp_path / name)
    refused(tmp_path / name, "exists already", "--overwrite")
    write(tmp_path / name, [1 - frame for frame in frames], overwrite=True)
    assert (tmp_path / name).is_symlink()
    (frame,) = open_clip(target)
    assert np.abs(frame - (1 - frames[0])).mean() < 0.1
    assert os.listdir(tmp_path / "disk") == [name]


def test_existing_folders_are_replaced_only_on_request(tmp_path, rng):
    frames = moving(rng, 2, 8, 8)
    out = tmp_path / "out"
    out.mkdir()
    write(out, frames)
    refused(out, "exists already and is not empty", "--overwrite")
    inode = out.stat().st_ino
    write(out, [*frames, frames[0]], overwrite=True)
    write(out, frames[:1], overwrite=True)
    assert sorted(os.listdir(out)) == ["00000000.png"]
    assert out.stat().st_ino == inode
    (out / "holiday.png").write_bytes(b"precious")
    refused(out, "holds holiday.png", overwrite=True)
    write(out, frames[:1], names=["holiday.png"], overwrite=True)
    assert sorted(os.listdir(out)) == ["holiday.png"]
    check_output(out, overwrite=True)


def test_inputs_are_never_overwritten(tmp_path, rng):
    clip = open_clip(make_video(tmp_path / "a.mp4", moving(rng, 2, 32, 32)))
    refused(tmp_path / "a.mp4", "is also an input", source=clip, overwrite=True)
    os.link(tmp_path / "a.mp4", tmp_path / "b.mp4")
    os.symlink(tmp_path / "a.mp4", tmp_path / "c.mp4")
    refused(tmp_path / "b.mp4", "is also an input", source=clip, overwrite=True)
    refused(tmp_path / "c.mp4", "is also an input", source=clip, overwrite=True)
    with pytest.raises(InputError, match="is also an input"):
        check_output(tmp_path / "a.mp4", overwrite=True, inputs=["none", tmp_path / "a.mp4"])
    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "in" / "00000000.png")
    folder = open_clip(tmp_path / "in")
    refused(tmp_path / "in", "is also an input", source=folder, overwrite=True)
    refused(tmp_path / "in" / ".." / "in", "is also an input", source=folder, overwrite=True)
    with pytest.raises(InputError, match=r"/in: holds the input 00000000\.png; choose another folder"):
        check_output(tmp_path / "in", overwrite=True, inputs=[tmp_path / "in" / "00000000.png"], names=[])


def test_unwritable_places_are_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    refused(tmp_path / "file" / "a.mp4", "cannot be written")
    refused(tmp_path / "file" / "sub" / "frames", "cannot be written")
    refused("/proc/none/a.mp4", "/proc/none/a.mp4: cannot be written")
    refused("/proc/none", "cannot be written")
    refused(tmp_path / ("n" * 300 + ".mp4"), "cannot be written")
    check_output(tmp_path / "deep" / "er" / "a.mp4")
    assert os.listdir(tmp_path) == ["file"]
