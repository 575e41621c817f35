"""Sound, subtitles, chapters and titles are kept with the new pictures."""

from fractions import Fraction

import av
import numpy as np
import pytest

from ldip_jax.media.reader import open_clip
from ldip_jax.media.writer import open_writer
from tests.media.make import make_video, moving, packets


def again(source, target):
    """Write the clip again, with every picture inverted."""
    clip = open_clip(source)
    with open_writer(target, height=clip.height, width=clip.width, source=clip) as writer:
        for frame in clip:
            writer.write(1 - frame)
    return writer


def duration(path, kind):
    found = packets(path, kind)
    return max(t for t, _ in found) - min(t for t, _ in found)


@pytest.mark.parametrize("name", ["b.mp4", "b.mov", "b.mkv", "b.m4v"])
@pytest.mark.parametrize("source", ["a.mp4", "a.mkv", "a.ts", "a.mov"])
def test_aac_is_copied_packet_by_packet(tmp_path, rng, source, name):
    make_video(tmp_path / source, moving(rng, 25, 32, 32), sound=1.0)
    assert open_clip(tmp_path / source).has_audio
    writer = again(tmp_path / source, tmp_path / name)
    assert "sound copied" in writer.notes
    before, after = packets(tmp_path / source, "audio"), packets(tmp_path / name, "audio")
    # Transport streams prefix each packet with a header, which MP4 and Matroska leave out.
    strip = 7 if source == "a.ts" else 0
    assert [data[strip:] for _, data in before] == [data for _, data in after]
    video_before, video_after = packets(tmp_path / source, "video"), packets(tmp_path / name, "video")
    offset_before = min(t for t, _ in video_before) - before[0][0]
    offset_after = min(t for t, _ in video_after) - after[0][0]
    assert offset_after == pytest.approx(offset_before, abs=0.002)
    np.testing.assert_allclose(np.diff([t for t, _ in after]), np.diff([t for t, _ in before]), atol=0.0021)
    assert open_clip(tmp_path / name).count == 25
    assert heard(tmp_path / name) == pytest.approx(heard(tmp_path / source), abs=0.03)


def heard(path):
    """The number of seconds of sound that can be decoded; checks their pitch."""
    with av.open(str(path)) as container:
        # Packed samples come as one row.
        decoded = list(container.decode(audio=0))
        frames = [f.to_ndarray()[0][:: 1 if f.format.is_planar else len(f.layout.channels)] for f in decoded]
        rate = container.streams.audio[0].codec_context.sample_rate
    wave = np.concatenate(frames).astype(float)
    wave = wave / np.abs(wave).max()
    spectrum = np.abs(np.fft.rfft(wave[2000:22000]))
    assert np.argmax(spectrum) * rate / 20000 == pytest.approx(440, abs=4)
    return len(wave) / rate


@pytest.mark.parametrize(
    ("source", "codec", "name", "note"),
    [
        ("a.mov", "pcm_s16le", "b.mp4", "pcm_s16le sound coded again as AAC"),
        ("a.mov", "pcm_s16le", "b.mov", "sound copied"),
        ("a.mov", "pcm_s16le", "b.mkv", "sound copied"),
        ("a.mkv", "libopus", "b.mov", "opus sound coded again as AAC"),
        ("a.mkv", "libopus", "b.mp4", "sound copied"),
        ("a.mkv", "flac", "b.mov", "flac sound coded again as AAC"),
        ("a.mp4", "libmp3lame", "b.mov", "sound copied"),
        ("a.avi", "pcm_s16le", "b.mp4", "pcm_s16le sound coded again as AAC"),
        ("a.avi", "libmp3lame", "b.mkv", "sound copied"),
        ("a.mpg", "mp2", "b.mp4", "sound copied"),
    ],
)
def test_sound_that_the_container_cannot_hold_is_coded_again(tmp_path, rng, source, codec, name, note):
    video = {"a.avi": "mpeg4", "a.mpg": "mpeg1video"}.get(source, "libx264")
    rate = 48000 if codec == "libopus" else 44100
    make_video(
        tmp_path / source, moving(rng, 25, 32, 32), codec=video, sound=1.0, sound_codec=codec, sound_rate=rate
    )
    writer = again(tmp_path / source, tmp_path / name)
    assert note in writer.notes
    assert heard(tmp_path / name) == pytest.approx(1.0, abs=0.08)
    clip = open_clip(tmp_path / name)
    assert clip.has_audio
    assert clip.count == 25
    if "coded again" in note:
        with av.open(str(tmp_path / name)) as container:
            assert container.streams.audio[0].codec_context.codec.canonical_name == "aac"


@pytest.mark.parametrize(("video", "sound"), [(Fraction(1, 2), Fraction(0)), (Fraction(0), Fraction(1, 2))])
@pytest.mark.parametrize("name", ["b.mp4", "b.mkv", "b.mov"])
@pytest.mark.parametrize("codec", ["aac", "flac"])
def test_offsets_between_sound_and_pictures_are_kept(tmp_path, rng, video, sound, name, codec):
    make_video(
        tmp_path / "a.mkv",
        moving(rng, 20, 32, 32),
        start=video,
        sound=1.0,
        sound_start=sound,
        sound_codec=codec,
    )
    again(tmp_path / "a.mkv", tmp_path / name)
    offsets = []
    for path in (tmp_path / "a.mkv", tmp_path / name):
        with av.open(str(path)) as container:
            first = next(container.decode(audio=0))
            offsets.append(float(first.pts * first.time_base) - float(open_clip(path).start))
    # An AAC encoder's lead-in is one frame of 1024 samples.
    assert offsets[1] == pytest.approx(offsets[0], abs=0.03)


def test_sound_longer_than_the_pictures_is_kept_whole(tmp_path, rng):
    make_video(tmp_path / "a.mp4", moving(rng, 5, 32, 32), sound=2.0)
    again(tmp_path / "a.mp4", tmp_path / "b.mp4")
    before, after = duration(tmp_path / "a.mp4", "audio"), duration(tmp_path / "b.mp4", "audio")
    assert after == pytest.approx(before, abs=0.002)


def test_titles_chapters_languages_and_subtitles(tmp_path, rng):
    path = tmp_path / "a.mkv"
    frames = moving(rng, 25, 32, 32)
    metadata = {"title": "Über", "artist": "Me", "rotate": "9"}
    make_video(tmp_path / "plain.mkv", frames, sound=1.0, metadata=metadata)
    (tmp_path / "a.srt").write_text("1\n00:00:00,200 --> 00:00:00,500\nhello\n")
    with (
        av.open(str(tmp_path / "plain.mkv")) as source,
        av.open(str(tmp_path / "a.srt")) as lines,
        av.open(str(path), "w") as output,
    ):
        output.metadata.update(source.metadata)
        output.set_chapters(
            [{"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}]
        )
        streams = {s.index: output.add_stream_from_template(s) for s in source.streams}
        streams[1].metadata["language"] = "swe"
        text = output.add_stream_from_template(lines.streams.subtitles[0])
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
        for packet in lines.demux():
            if packet.size:
                packet.stream = text
                output.mux(packet)
    again(path, tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert container.metadata["title"] == "Über"
        assert container.metadata.get("ARTIST", container.metadata.get("artist")) == "Me"
        assert "rotate" not in {key.lower() for key in container.metadata}
        assert container.streams.audio[0].metadata["language"] == "swe"
        (chapter,) = container.chapters()
        assert (chapter["end"] - chapter["start"]) * chapter["time_base"] == Fraction(1, 2)
        (subtitle,) = [bytes(p) for p in container.demux(container.streams.subtitles[0]) if p.size]
        assert subtitle == b"hello"
    writer = again(path, tmp_path / "b.mp4")
    assert "subrip subtitles left out, which the new file cannot hold" in writer.notes
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.metadata["title"] == "Über"
        assert not container.streams.subtitles


def test_creation_time_is_kept(tmp_path, rng):
    metadata = {"creation_time": "2021-02-03T04:05:06.000000Z"}
    make_video(tmp_path / "a.mp4", moving(rng, 3, 32, 32), metadata=metadata)
    for name in ("b.mp4", "b.mkv", "b.mov"):
        again(tmp_path / "a.mp4", tmp_path / name)
        with av.open(str(tmp_path / name)) as container:
            assert container.metadata["creation_time"] == metadata["creation_time"]


def test_two_sound_tracks(tmp_path, rng):
    make_video(tmp_path / "one.mkv", moving(rng, 10, 32, 32), sound=0.4)
    with av.open(str(tmp_path / "one.mkv")) as source, av.open(str(tmp_path / "a.mkv"), "w") as output:
        video = output.add_stream_from_template(source.streams.video[0])
        both = [output.add_stream_from_template(source.streams.audio[0]) for _ in range(2)]
        for packet in source.demux():
            if packet.size and packet.stream.type == "video":
                packet.stream = video
                output.mux(packet)
            elif packet.size:
                for stream in both:
                    copy = av.Packet(bytes(packet))
                    copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                    copy.stream, copy.duration = stream, packet.duration
                    output.mux(copy)
    assert "2 sound tracks copied" in again(tmp_path / "a.mkv", tmp_path / "b.mp4").notes
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert len(container.streams.audio) == 2
