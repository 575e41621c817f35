"""Sound of the new file: channels, clocks, trimmed parts, and what cannot be converted."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ldip_jax.media.layouts import aac_layout, decoded_layouts
from ldip_jax.media.reader import open_clip
from tests.media.sync import RATE, audio_frames, beeping, beeps, copied, flashes, make_synced, peaks


def layout_of(path):
    with av.open(str(path)) as container:
        return next(container.decode(audio=0)).layout.name


@pytest.mark.parametrize(
    ("layout", "written", "kept"),
    [
        ("mono", "mono", True),
        ("stereo", "stereo", True),
        ("quad", "quad", True),
        ("quad(side)", "quad", True),
        ("5.0(side)", "5.0", True),
        ("5.1", "5.1", True),
        ("5.1(side)", "5.1", True),
        ("7.1", "7.1", True),
        ("3.1", "5.1", True),
        ("6 channels", "5.1", True),
        ("6.1", "7.1", False),
        ("7.1(wide)", "7.1", False),
    ],
)
def test_the_channels_of_aac(layout, written, kept):
    assert aac_layout(layout) == (written, kept)


def test_too_many_channels_for_aac():
    assert aac_layout("16 channels") is None


@pytest.mark.parametrize("layout", ["quad", "5.1", "5.1(side)", "7.1"])
def test_surround_channels_are_kept(tmp_path, layout):
    make_synced(tmp_path / "a.mov", sound="pcm_s16le", layout=layout)
    notes = copied(tmp_path / "a.mov", tmp_path / "b.mp4")
    assert "pcm_s16le sound coded again as AAC" in notes
    assert layout_of(tmp_path / "b.mp4") == layout.removesuffix("(side)")
    expected = [300 + 100 * i for i in range(av.AudioLayout(layout).nb_channels)]
    if "." in layout:
        # Encoders remove high frequencies from the bass channel.
        expected[3] = 0
    assert [0 if i == 3 and "." in layout else p for i, p in enumerate(peaks(tmp_path / "b.mp4"))] == expected


def test_mixed_channels_are_reported(tmp_path):
    make_synced(tmp_path / "a.mov", sound="pcm_s16le", layout="7.1(wide)")
    notes = copied(tmp_path / "a.mov", tmp_path / "b.mp4")
    assert "pcm_s16le sound coded again as AAC, its 7.1(wide) channels mixed to 7.1" in notes


def unusual_order(path):
    """A QuickTime file with 7.1 channels in an unusual order (MPEG's 7.1 B)."""
    make_synced(path, sound="pcm_s16le", layout="7.1")
    data = bytearray(path.read_bytes())
    place = data.find(b"chan") + 8
    data[place : place + 8] = struct.pack(">II", 127 << 16 | 8, 0)
    path.write_bytes(data)
    return path


def test_channels_in_an_unusual_order(tmp_path):
    path = unusual_order(tmp_path / "a.mov")
    assert decoded_layouts(path, 1) is None
    notes = copied(path, tmp_path / "b.mp4")
    assert (
        "pcm_s16le sound left out, whose channels cannot be read; .mov or .mkv may take it as it is" in notes
    )
    assert not open_clip(tmp_path / "b.mp4").has_audio
    assert "sound copied" in copied(path, tmp_path / "b.mov")
    assert open_clip(tmp_path / "b.mov").has_audio


def test_nothing_in_the_current_folder_is_run(tmp_path, monkeypatch):
    make_synced(tmp_path / "a.mov", sound="pcm_s16le", layout="stereo")
    for name in ("av", "json", "ldip_jax"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()\nraise SystemExit")
    monkeypatch.chdir(tmp_path)
    assert decoded_layouts(Path("a.mov"), 1) == ["stereo"]
    assert not (tmp_path / "ran").exists()


def test_sound_with_a_coarse_clock(tmp_path):
    make_synced(tmp_path / "a.avi", codec="mpeg4", sound="wmav2", layout="stereo", options={"qscale": "2"})
    notes = copied(tmp_path / "a.avi", tmp_path / "b.mp4")
    assert "wmav2 sound coded again as AAC" in notes
    (flash,), (beep,) = flashes(tmp_path / "b.mp4"), beeps(tmp_path / "b.mp4")
    assert beep - flash == pytest.approx(0, abs=0.06)


def flac(path, layouts):
    """A clip whose sound changes its channels every second; each second has a beep."""
    make_synced(path.with_suffix(".mp4"), len(layouts))
    with av.open(str(path.with_suffix(".mp4"))) as source, av.open(str(path), "w") as output:
        video = output.add_stream_from_template(source.streams.video[0])
        first = output.add_stream("flac", rate=RATE, layout="stereo")
        output.start_encoding()
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = video
                output.mux(packet)
        for second, layout in enumerate(layouts):
            encoder = av.AudioCodecContext.create("flac", "w")
            encoder.format, encoder.layout, encoder.sample_rate = "s16", layout, RATE
            encoder.time_base = Fraction(1, RATE)
            for frame in audio_frames(beeping(1, layout=layout), layout, 4096):
                frame.pts += second * RATE
                for packet in encoder.encode(frame):
                    packet.stream, packet.time_base = first, Fraction(1, RATE)
                    output.mux(packet)
    return path


def test_a_track_that_changes_its_channels(tmp_path):
    path = flac(tmp_path / "a.mkv", ["stereo", "mono", "stereo"])
    notes = copied(path, tmp_path / "b.mov")
    assert "flac sound coded again as AAC" in notes
    assert "its channels change on the way (stereo, mono): stereo throughout" in notes
    assert np.diff(beeps(tmp_path / "b.mov")) == pytest.approx([1, 1], abs=0.05)


def test_packets_that_step_back_in_time(tmp_path):
    make_synced(tmp_path / "a.mkv", sound="aac")
    data = bytearray((tmp_path / "a.mkv").read_bytes())
    with av.open(str(tmp_path / "a.mkv")) as container:
        sound = [bytes(p) for p in container.demux(audio=0) if p.size]
    # The header of a block: track, time within the cluster, flags.
    for number in (30, 31, 50):
        place = data.find(sound[number]) - 3
        (time,) = struct.unpack(">h", data[place : place + 2])
        data[place : place + 2] = struct.pack(">h", time - 200)
    (tmp_path / "a.mkv").write_bytes(data)
    for target in ("b.mp4", "b.mkv", "b.mov"):
        notes = copied(tmp_path / "a.mkv", tmp_path / target)
        assert any("of sound left out: damaged, or stepping back in time" in note for note in notes)
        (flash,), (beep,) = flashes(tmp_path / target), beeps(tmp_path / target)
        assert beep - flash == pytest.approx(0, abs=0.05)


def trim(path, seconds):
    """Trim the beginning by means of the edit lists of an MP4 file, as phones and editors do."""
    data = bytearray(path.read_bytes())
    place, rates = data.find(b"elst"), iter((12800, RATE))
    while place >= 0:
        duration, begin = struct.unpack(">Ii", data[place + 12 : place + 20])
        begin += round(seconds * next(rates))
        data[place + 12 : place + 20] = struct.pack(">Ii", duration - round(1000 * seconds), begin)
        place = data.find(b"elst", place + 4)
    path.write_bytes(data)


@pytest.mark.parametrize("sound", ["aac", "pcm_s16le", "libmp3lame"])
@pytest.mark.parametrize("target", ["b.mkv", "b.mp4", "b.mov"])
def test_trimmed_sound_is_not_restored(tmp_path, sound, target):
    path = tmp_path / ("a.mov" if sound == "pcm_s16le" else "a.mp4")
    make_synced(path, sound=sound, options={"bf": "0", "g": "5"})
    trim(path, 0.8)
    copied(path, tmp_path / target)
    # The beep and the flash were in the trimmed part.
    assert beeps(tmp_path / target) == flashes(tmp_path / target) == []
    with av.open(str(tmp_path / target)) as container:
        packets = [p for p in container.demux(container.streams.audio[0]) if p.size]
        unit = float(packets[0].time_base)
        length = sum(p.duration for p in packets) * unit
    assert length == pytest.approx(1.2, abs=0.08)
    assert open_clip(tmp_path / target).count == 30


def test_trimming_keeps_sound_and_pictures_together(tmp_path):
    make_synced(tmp_path / "a.mp4", options={"bf": "0", "g": "5"})
    trim(tmp_path / "a.mp4", 0.4)
    for target in ("b.mkv", "b.mp4"):
        copied(tmp_path / "a.mp4", tmp_path / target)
        (flash,), (beep,) = flashes(tmp_path / target), beeps(tmp_path / target)
        assert beep - flash == pytest.approx(0, abs=0.03)
