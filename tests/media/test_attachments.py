"""Fonts, covers, tags, timecode, stereo mode and HDR10 data: kept, or reported as left out."""

import io
import struct

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from ldip_jax.media.color import Color
from ldip_jax.media.reader import open_clip
from tests.media.make import make_video, moving
from tests.media.sync import copied

LOST = "left out, which the new file cannot hold: "
MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"


def picture(kind):
    data = io.BytesIO()
    Image.new("RGB", (16, 16), (255, 0, 0)).save(data, kind)
    return data.getvalue()


def make_clip(path, rng, *, tags=None, video_tags=None, attach=(), options=None, disposition=None):
    with av.open(str(path), "w", options=options or {}) as output:
        output.metadata.update(tags or {})
        stream = output.add_stream("libx264", rate=25)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = 32, 32, "yuv420p"
        stream.metadata.update(video_tags or {})
        if disposition is not None:
            stream.disposition = disposition
        for name, kind, data in attach:
            output.add_attachment(name, kind, data)
        for number, pixels in enumerate(moving(rng, 5, 32, 32)):
            frame = av.VideoFrame.from_ndarray(np.rint(pixels * 255).astype(np.uint8), "rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def test_fonts(tmp_path, rng):
    path = make_clip(tmp_path / "a.mkv", rng, attach=[("f.ttf", "font/ttf", b"font" * 10)])
    assert not any("left out" in note for note in copied(path, tmp_path / "b.mkv"))
    with av.open(str(tmp_path / "b.mkv")) as container:
        (font,) = container.streams.attachments
        assert (font.metadata["filename"], font.mimetype, font.data) == ("f.ttf", "font/ttf", b"font" * 10)
    assert LOST + "f.ttf" in copied(path, tmp_path / "b.mp4")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_cover_art(tmp_path, rng, kind):
    data = picture(kind)
    attach = [(f"cover.{kind.lower()}", f"image/{kind.lower()}", data)]
    path = make_clip(tmp_path / "a.mkv", rng, attach=attach)
    clip = open_clip(path)
    assert not any("video streams" in note for note in clip.notes)
    assert clip.count == 5
    for source, target in (("a.mkv", "b.mp4"), ("b.mp4", "c.mkv"), ("b.mp4", "c.mp4")):
        copied(tmp_path / source, tmp_path / target)
        with av.open(str(tmp_path / target)) as container:
            (cover,) = [s for s in container.streams.video if s.disposition & Disposition.attached_pic]
            found = [bytes(p) for p in container.demux() if p.size and p.stream == cover]
        assert found == [data]
        assert open_clip(tmp_path / target).count == 5
    assert any(note.startswith(LOST + "cover art") for note in copied(path, tmp_path / "b.mov"))


TAGS = {
    "title": "T",
    "com.apple.quicktime.location.ISO6709": "+27.5-015.5+100/",
    "com.apple.quicktime.creationdate": "2021-02-03T04:05:06+0100",
    "com.apple.quicktime.make": "Apple",
    "show": "S",
}


@pytest.mark.parametrize("target", ["b.mp4", "b.mov", "b.mkv"])
def test_all_tags(tmp_path, rng, target):
    path = make_clip(tmp_path / "a.mov", rng, tags=TAGS, options={"movflags": "use_metadata_tags"})
    copied(path, tmp_path / target)
    with av.open(str(tmp_path / target)) as container:
        found = {key.lower(): value for key, value in container.metadata.items()}
    for key, value in TAGS.items():
        assert found[key.lower()] == value


@pytest.mark.parametrize(("source", "target"), [("a.mkv", "b.mkv"), ("a.mkv", "b.mp4"), ("a.mp4", "b.mkv")])
def test_tags_of_the_pictures_are_kept(tmp_path, rng, source, target):
    stream_tags = {"title": "Director", "language": "swe", "timecode": "01:00:00:00"}
    path = make_clip(tmp_path / source, rng, video_tags=stream_tags, disposition=Disposition.default)
    copied(path, tmp_path / target)
    with av.open(str(tmp_path / target)) as container:
        stream = container.streams.video[0]
        found = {key.lower(): value for key, value in stream.metadata.items()}
        assert found.get("title", found.get("name")) == "Director"
        assert (found["language"], found["timecode"]) == ("swe", "01:00:00:00")
        assert stream.disposition & Disposition.default


@pytest.mark.parametrize("language", ["eng", "fra", "spa", "jpn", "rus", "kor", "swe", "deu"])
def test_a_language_is_kept_or_reported(tmp_path, rng, language):
    path = make_clip(tmp_path / "a.mkv", rng, video_tags={"language": language})
    notes = copied(path, tmp_path / "b.mov")
    with av.open(str(tmp_path / "b.mov")) as container:
        kept = container.streams.video[0].metadata.get("language") == language
    assert kept != (LOST + f"language of the pictures ({language})" in notes)


def test_tags_about_the_old_file_are_dropped(tmp_path, rng):
    path = make_clip(tmp_path / "a.mkv", rng, tags={"encoder": "old", "rotate": "90"})
    copied(path, tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert "rotate" not in {key.lower() for key in container.metadata}
        assert "old" not in container.metadata.values()


def test_stereo_mode(tmp_path, rng):
    path = make_clip(tmp_path / "a.mkv", rng, video_tags={"stereo_mode": "left_right"})
    assert open_clip(path).frame_metadata.stereo == "side_by_side"
    for source, target in (("a.mkv", "b.mkv"), ("a.mkv", "b.mp4"), ("b.mp4", "c.mkv")):
        copied(tmp_path / source, tmp_path / target)
        assert open_clip(tmp_path / target).frame_metadata.stereo == "side_by_side"
    odd = make_clip(tmp_path / "d.mkv", rng, video_tags={"stereo_mode": "right_left"})
    copied(odd, tmp_path / "e.mkv")
    assert open_clip(tmp_path / "e.mkv").frame_metadata.stereo == "right_left"
    assert LOST + "stereo mode (right_left)" in copied(odd, tmp_path / "e.mp4")


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("target", ["b.mp4", "b.mkv"])
def test_hdr10_data(tmp_path, codec, target):
    from ldip_jax.media.writer import open_writer

    # Smaller blocks: see `coding`.
    params = f"log-level=error:ctu=32:master-display={MASTERING}:max-cll=1000,400"
    planes = [np.full((3, 64, 64), 512, np.uint16)] * 2
    color = Color(9, 9, 16, False, 10)
    options = {"x265-params": params}
    path = make_video(
        tmp_path / "a.mkv", planes, codec="libx265", layout="yuv420p10le", color=color, options=options
    )
    clip = open_clip(path)
    assert clip.frame_metadata.mastering == MASTERING
    assert clip.frame_metadata.light == (1000, 400)
    with open_writer(
        tmp_path / target, height=64, width=64, source=clip, codec=codec, bit_depth=16
    ) as writer:
        for frame in clip:
            writer.write(frame)
    assert open_clip(tmp_path / target).frame_metadata == clip.frame_metadata
    assert not any("left out" in note for note in writer.notes)
    with open_writer(tmp_path / "c.mkv", height=64, width=64, source=clip, lossless=True) as writer:
        writer.write(next(iter(clip)))
    assert LOST + "HDR10 mastering data" in writer.notes


def test_empty_mastering_data_are_ignored():
    from ldip_jax.media.frame_metadata import _mastering

    assert _mastering(b"") is None
    assert _mastering(struct.pack("=22i", *[1] * 20, 0, 1)) is None
    assert _mastering(struct.pack("=22i", *[0] * 20, 1, 1)) is None
