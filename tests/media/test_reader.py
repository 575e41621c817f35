"""What `open_clip` takes and what it refuses."""

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from ldip_jax.errors import InputError
from ldip_jax.media.reader import open_clip
from tests.media.make import make_video, moving, packets


@pytest.fixture
def folder(tmp_path, rng):
    path = tmp_path / "frames"
    path.mkdir()
    for name in ("b.png", "a.png", "c.bmp"):
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(path / name)
    return path


def refused(path, *words):
    with pytest.raises(InputError) as caught:
        for _ in open_clip(path):
            pass
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


def test_a_folder_in_name_order(folder):
    with open_clip(folder) as clip:
        frames = list(clip)
        assert (clip.kind, clip.count, clip.height, clip.width, clip.fps) == ("images", 3, 6, 8, None)
        assert clip.names == ["a.png", "b.png", "c.png"]
        assert clip.notes == []
        assert not clip.has_audio
        for name, frame in zip(("a.png", "b.png", "c.bmp"), frames, strict=True):
            with Image.open(folder / name) as image:
                np.testing.assert_array_equal(np.rint(frame * 255), np.asarray(image))
        for again, frame in zip(clip.frames(), frames, strict=True):
            np.testing.assert_array_equal(again, frame)


def test_frames_come_one_at_a_time(folder):
    frames = iter(open_clip(folder))
    next(frames)
    (folder / "b.png").write_bytes(b"gone bad")
    with pytest.raises(InputError, match=r"b\.png"):
        next(frames)


def test_hidden_files_and_folders_are_ignored_others_are_named(folder):
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "sub").mkdir()
    assert open_clip(folder).notes == []
    (folder / "readme.txt").write_text("x")
    (folder / "list.csv").write_text("x")
    assert open_clip(folder).notes == ["files that are no images are ignored: list.csv and 1 more"]


def test_numbers_without_zeros_are_pointed_out(tmp_path):
    for number in (1, 2, 10):
        Image.new("RGB", (4, 4)).save(tmp_path / f"f{number}.png")
    clip = open_clip(tmp_path)
    assert clip.names == ["f1.png", "f10.png", "f2.png"]
    assert "f10.png before f2.png" in clip.notes[0]


def test_notes_say_how_many_images_are_meant(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("L", (4, 4)).save(tmp_path / "b.png")
    Image.new("RGBA", (4, 4)).save(tmp_path / "c.png")
    assert open_clip(tmp_path).notes == ["grey to RGB (1 of 3 images)", "alpha dropped (1 of 3 images)"]
    assert [frame.shape for frame in open_clip(tmp_path)] == [(4, 4, 3)] * 3


def test_one_image_is_a_clip_of_one_frame(folder):
    clip = open_clip(folder / "c.bmp")
    assert (clip.kind, clip.count, clip.names) == ("image", 1, ["c.png"])
    assert len(list(clip)) == 1


def test_sizes_are_compared_upright(folder, rng):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 8)).save(folder / "d.jpg", exif=exif)
    clip = open_clip(folder)
    assert [frame.shape for frame in clip] == [(6, 8, 3)] * 4
    assert clip.notes == ["turned upright as its EXIF data say (1 of 4 images)"]


def test_mixed_sizes_name_the_first_that_differs(folder):
    Image.new("RGB", (9, 6)).save(folder / "bb.png")
    Image.new("RGB", (1, 1)).save(folder / "zz.png")
    refused(folder, "bb.png", "9x6", "a.png", "8x6")


def test_two_files_of_one_output_name(folder):
    Image.new("RGB", (8, 6)).save(folder / "B.bmp")
    refused(folder, "b.png", "B.bmp", "output name")


def test_damaged_image_in_a_folder(folder, rng):
    path = folder / "b.png"
    path.write_bytes(path.read_bytes()[:-60])
    refused(folder, "b.png")
    path.write_text("no image " * 20)
    refused(folder, "b.png")


def test_nothing_to_read(tmp_path):
    refused(tmp_path / "none.mp4", "none.mp4", "no such file or folder")
    refused(tmp_path / "a" / "b", "no such file")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty", "no images")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("x")
    refused(tmp_path / "text", "no images", "notes.txt")
    (tmp_path / "x.mp4").mkdir()
    refused(tmp_path / "x.mp4", "no images in this folder")
    (tmp_path / "zero.mp4").write_bytes(b"")
    refused(tmp_path / "zero.mp4", "zero.mp4: is empty")
    refused("/dev/null", "neither a file nor a folder")


def test_a_folder_named_like_a_video_is_a_folder(tmp_path, folder):
    folder.rename(tmp_path / "x.mp4")
    assert open_clip(tmp_path / "x.mp4").count == 3


@pytest.mark.parametrize("name", ["a.png", "a.mp4", "a.txt", "a.srt", "a.m3u8", "a.y4m", "a"])
@pytest.mark.parametrize(
    "data",
    [
        b"hello world\n" * 100,
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"1\n00:00:00,000 --> 00:00:01,000\nhello\n",
        b"ffconcat version 1.0\nfile secret.mp4\n",
        bytes(5000),
        bytes(range(256)) * 20,
    ],
)
def test_neither_video_nor_image(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    refused(tmp_path / name, name)


def test_playlists_do_not_open_other_files(tmp_path, rng):
    make_video(tmp_path / "seg.ts", moving(rng, 5, 32, 48))
    (tmp_path / "a.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nseg.ts\n#EXT-X-ENDLIST\n")
    refused(tmp_path / "a.mp4", "a.mp4")


def test_sound_without_pictures(tmp_path, rng):
    make_video(tmp_path / "v.mp4", moving(rng, 3, 32, 32), sound=0.5)
    with av.open(str(tmp_path / "v.mp4")) as source, av.open(str(tmp_path / "a.m4a"), "w") as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    assert packets(tmp_path / "a.m4a", "audio")
    refused(tmp_path / "a.m4a", "sound but no pictures")


def test_an_animated_picture_is_a_video(tmp_path, rng):
    frames = [Image.fromarray(np.rint(f * 255).astype(np.uint8)) for f in moving(rng, 4, 16, 24)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], duration=100)
    clip = open_clip(tmp_path / "a.png")
    assert (clip.kind, clip.height, clip.width) == ("video", 16, 24)
    assert len(list(clip)) == 4
    grey = [f.convert("L") for f in frames]
    grey[0].save(tmp_path / "a.gif", save_all=True, append_images=grey[1:], duration=100)
    clip = open_clip(tmp_path / "a.gif")
    assert (clip.kind, clip.fps) == ("video", Fraction(10))
    for frame, wanted in zip(clip, grey, strict=True):
        np.testing.assert_allclose(frame[..., 0] * 255, np.asarray(wanted), atol=0.01)


def test_heic_is_named(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    refused(tmp_path / "a.heic", "HEIC")


def test_strange_names(tmp_path, rng):
    for name in ("100%d.mp4", "a:b.mp4", "http:x.mp4", "über leer.mp4", "-x.mp4"):
        make_video(tmp_path / "v.mp4", moving(rng, 2, 32, 32)).rename(tmp_path / name)
        assert len(list(open_clip(tmp_path / name))) == 2


def test_reading_and_writing_need_no_jax():
    code = "import sys, ldip_jax.media.reader, ldip_jax.media.writer; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
