"""What `open_clip` accepts and what it refuses."""

import base64
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from ldip_jax.errors import InputError
from ldip_jax.media import image_files, images
from ldip_jax.media.reader import open_clip
from ldip_jax.media.writer import open_writer
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


def test_a_folder_is_read_in_name_order(folder):
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


def test_frames_are_read_one_at_a_time(folder):
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
    assert open_clip(folder).notes == ["files that are not images are ignored: list.csv and 1 more"]


def test_numbers_without_leading_zeros(tmp_path):
    for number in (1, 2, 10):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"f{number}.png")
    clip = open_clip(tmp_path)
    assert clip.names == ["f1.png", "f2.png", "f10.png"]
    assert clip.notes == ["taken in the order of their numbers: f2.png before f10.png"]
    assert [round(255 * frame[0, 0, 0]) for frame in clip] == [1, 2, 10]


def test_names_of_several_patterns_stay_in_name_order(tmp_path):
    for name in ("a10.png", "a2.png", "b1.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    clip = open_clip(tmp_path)
    assert clip.names == ["a10.png", "a2.png", "b1.png"]
    assert clip.notes == ["name order puts a10.png before a2.png; pad the numbers if that is wrong"]


def test_several_numbers_in_a_name(tmp_path):
    for name in ("s2_t10.png", "s2_t9.png", "s10_t1.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    assert open_clip(tmp_path).names == ["s2_t9.png", "s2_t10.png", "s10_t1.png"]


def test_notes_say_how_many_images_they_concern(tmp_path):
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


def test_the_first_image_of_another_size_is_named(folder):
    Image.new("RGB", (9, 6)).save(folder / "bb.png")
    Image.new("RGB", (1, 1)).save(folder / "zz.png")
    refused(folder, "bb.png", "9x6", "a.png", "8x6")


def test_two_files_with_the_same_output_name_are_refused(folder):
    Image.new("RGB", (8, 6)).save(folder / "B.bmp")
    refused(folder, "b.png", "B.bmp", "output name")


def test_a_damaged_image_in_a_folder_is_refused(folder, rng):
    path = folder / "b.png"
    path.write_bytes(path.read_bytes()[:-60])
    refused(folder, "b.png")
    path.write_text("no image " * 20)
    refused(folder, "b.png")


def test_missing_and_empty_inputs_are_refused(tmp_path):
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
def test_files_that_are_neither_video_nor_image_are_refused(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    refused(tmp_path / name, name)


def test_playlists_do_not_open_other_files(tmp_path, rng):
    make_video(tmp_path / "seg.ts", moving(rng, 5, 32, 48))
    (tmp_path / "a.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nseg.ts\n#EXT-X-ENDLIST\n")
    refused(tmp_path / "a.mp4", "a.mp4")


def test_sound_without_pictures_is_refused(tmp_path, rng):
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
    for frame, expected in zip(clip, grey, strict=True):
        np.testing.assert_allclose(frame[..., 0] * 255, np.asarray(expected), atol=0.01)


def pages(path, rng, **options):
    frames = [Image.fromarray(np.rint(f * 255).astype(np.uint8)) for f in moving(rng, 4, 16, 24)]
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    return [np.asarray(frame).astype(np.float32) / 255 for frame in frames]


@pytest.mark.parametrize(
    ("name", "options", "worst"),
    [
        ("a.webp", {"lossless": True, "duration": 50}, 0.01),
        ("a.avif", {"duration": 50, "quality": 100, "subsampling": "4:4:4"}, 6),
        ("a.tif", {"compression": "tiff_lzw"}, 0.01),
    ],
)
def test_pictures_of_one_file_are_frames(tmp_path, rng, name, options, worst):
    expected = pages(tmp_path / name, rng, **options)
    clip = open_clip(tmp_path / name)
    assert (clip.kind, clip.count, clip.height, clip.width) == ("images", 4, 16, 24)
    assert (clip.fps, clip.times) == (None if name == "a.tif" else 20, None)
    assert clip.notes[-1] == "its 4 pictures are the frames"
    for _ in range(2):
        for frame, picture in zip(clip, expected, strict=True):
            np.testing.assert_allclose(255 * frame, 255 * picture, atol=worst)


def test_pictures_keep_their_times_in_a_video(tmp_path, rng):
    pages(tmp_path / "a.webp", rng, lossless=True, duration=[100, 100, 300, 200])
    clip = open_clip(tmp_path / "a.webp")
    assert clip.times == [0, Fraction(1, 10), Fraction(1, 5), Fraction(1, 2)]
    with open_writer(tmp_path / "b.mp4", height=16, width=24, source=clip) as writer:
        for frame in clip:
            writer.write(frame)
    written = open_clip(tmp_path / "b.mp4")
    assert (written.times, written.hold) == (clip.times, Fraction(1, 5))


def test_only_the_first_of_pages_of_different_sizes_is_read(tmp_path):
    first = Image.new("RGB", (24, 16))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[first.resize((12, 8))])
    clip = open_clip(tmp_path / "a.tif")
    assert (clip.kind, clip.count) == ("image", 1)
    assert clip.notes == ["the first of its 2 pictures"]


def test_damaged_pictures_of_one_file_are_refused(tmp_path, rng):
    for name, options in (("a.webp", {"lossless": True}), ("a.tif", {"compression": "tiff_lzw"})):
        pages(tmp_path / name, rng, **options)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
        refused(tmp_path / name, name)


@pytest.mark.parametrize("first", [True, False])
def test_the_default_video_stream_is_taken(tmp_path, rng, first):
    for name, value in (("one", 0.2), ("two", 0.8)):
        make_video(tmp_path / f"{name}.mkv", [np.full((32, 32, 3), value, np.float32)] * 3)
    with (
        av.open(str(tmp_path / "one.mkv")) as one,
        av.open(str(tmp_path / "two.mkv")) as two,
        av.open(str(tmp_path / "a.mkv"), "w") as output,
    ):
        for source, default in ((one, first), (two, not first)):
            stream = output.add_stream_from_template(source.streams.video[0])
            stream.disposition = Disposition.default if default else Disposition(0)
        for source, stream in zip((one, two), output.streams.video, strict=True):
            for packet in source.demux():
                if packet.size:
                    packet.stream = stream
                    output.mux(packet)
    clip = open_clip(tmp_path / "a.mkv")
    assert next(iter(clip)).mean() == pytest.approx(0.2 if first else 0.8, abs=0.02)
    assert f"the {'first' if first else 'default one'} of 2 video streams is taken" in clip.notes


# Quarters of red, green, blue and grey, 64x64.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ACJpbG9jAAAAAERAAAEAAQAAAAABegABAAAAAAAAAD8AAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRt"
    "AAAAAAABAAAA1mlwcnAAAAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xy"
    "bmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAAEdt"
    "ZGF0AAAAOygBrwngITl1X//7Cf//+1C8h+lbLZ559z9kf9YC//8F0HCf/4D0QH7+Ft/63eTI//0N1Onx7LC+lDQg"
)


def test_heic_without_its_extra_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "HEIF_READERS", ())
    image_files.register_heif.cache_clear()
    (tmp_path / "a.heic").write_bytes(HEIC)
    for path in (tmp_path / "a.heic", tmp_path):
        refused(path, "a.heic: HEIC images need the extra heif", "pip install 'ldip-jax[heif]'")
    with pytest.raises(InputError, match="need the extra heif"):
        images.read_image(tmp_path / "a.heic")
    image_files.register_heif.cache_clear()


def test_heic(tmp_path):
    pytest.importorskip("pi_heif")
    (tmp_path / "a.heic").write_bytes(HEIC)
    for path in (tmp_path / "a.heic", tmp_path):
        clip = open_clip(path)
        assert (clip.count, clip.height, clip.width, clip.notes) == (1, 64, 64, [])
        (frame,) = clip
        np.testing.assert_allclose(255 * frame[16, 16], (200, 60, 60), atol=2)
        np.testing.assert_allclose(255 * frame[48, 48], (220, 220, 220), atol=2)
    (tmp_path / "a.heic").write_bytes(HEIC[:-40])
    refused(tmp_path / "a.heic", "a.heic: cannot be read as an image")
    place = HEIC.find(b"colrnclx") + 8
    (tmp_path / "a.heic").write_bytes(HEIC[:place] + bytes([0, 9, 0, 16]) + HEIC[place + 4 :])
    refused(tmp_path / "a.heic", "PQ high dynamic range")


def test_an_mpeg_stream_is_not_an_image(tmp_path, rng):
    frames = moving(rng, 5, 64, 64)
    path = make_video(
        tmp_path / "a.m2v", frames, codec="mpeg2video", container="mpeg2video", options={"b": "3000000"}
    )
    clip = open_clip(path)
    assert (clip.kind, clip.count, len(list(clip))) == ("video", 5, 5)


def test_postscript_is_not_run(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.eps")
    refused(tmp_path / "a.eps", "a.eps", "cannot be read as video or image")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: cannot be read as an image"):
        images.read_image(tmp_path / "a.png")


def test_unusual_names(tmp_path, rng):
    for name in ("100%d.mp4", "a:b.mp4", "http:x.mp4", "über leer.mp4", "-x.mp4"):
        make_video(tmp_path / "v.mp4", moving(rng, 2, 32, 32)).rename(tmp_path / name)
        assert len(list(open_clip(tmp_path / name))) == 2


def test_reading_and_writing_do_not_import_jax():
    code = "import sys, ldip_jax.media.reader, ldip_jax.media.writer; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
