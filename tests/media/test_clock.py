"""Files whose clock restarts, or in which only the frames have times: pictures and sound stay together."""

from fractions import Fraction

import av
import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.media.reader import open_clip
from tests.media.make import make_video, moving
from tests.media.sync import MOMENT, beeps, copied, flashes, make_synced

FORMS = {
    "a.ts": {"container": "mpegts"},
    "a.vob": {"container": "vob", "codec": "mpeg2video", "sound": "mp2"},
}


def assert_in_sync(path, parts=1, length=2):
    """Assert that the flash and the beep of every part coincide, and that parts follow one another."""
    seen, heard = flashes(path), beeps(path)
    assert len(seen) == len(heard) == parts
    np.testing.assert_allclose(np.array(heard) - seen, 0, atol=0.03)
    np.testing.assert_allclose(np.diff(seen), length, atol=0.05)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("target", ["b.mp4", "b.mkv", "b.mov"])
def test_a_clock_that_restarts(tmp_path, name, target):
    data = make_synced(tmp_path / name, **FORMS[name]).read_bytes()
    (tmp_path / f"two{name[1:]}").write_bytes(data * 2)
    clip = open_clip(tmp_path / f"two{name[1:]}")
    assert (clip.count, clip.fps, clip.times) == (100, 25, None)
    assert clip.notes[0] == "its clock restarts once, as in joined files: the parts follow one another"
    copied(clip.path, tmp_path / target)
    assert_in_sync(tmp_path / target, parts=2)
    assert open_clip(tmp_path / target).count == 100


@pytest.mark.parametrize("order", [(0, 100), (100, 0), (0, 100, 0), (50, 9000, 20)])
def test_parts_of_any_clock(tmp_path, order):
    parts = [make_synced(tmp_path / f"{i}.ts", start=Fraction(begin)) for i, begin in enumerate(order)]
    (tmp_path / "all.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = open_clip(tmp_path / "all.ts")
    assert (clip.count, clip.fps, clip.times) == (50 * len(order), 25, None)
    copied(clip.path, tmp_path / "b.mp4")
    assert_in_sync(tmp_path / "b.mp4", parts=len(order))


def test_the_discontinuity_flag_changes_nothing(tmp_path):
    data = make_synced(tmp_path / "a.ts").read_bytes()
    second = bytearray(data)
    for start in range(0, len(second), 188):
        # Where the packet has an adaptation field with flags.
        if second[start + 3] & 0x20 and second[start + 4]:
            second[start + 5] |= 0x80
            break
    (tmp_path / "two.ts").write_bytes(data + bytes(second))
    assert open_clip(tmp_path / "two.ts").count == 100
    copied(tmp_path / "two.ts", tmp_path / "b.mp4")
    assert_in_sync(tmp_path / "b.mp4", parts=2)


def test_silent_parts(tmp_path, rng):
    frames = moving(rng, 25, 64, 64)
    data = make_video(tmp_path / "a.ts", frames).read_bytes()
    (tmp_path / "two.ts").write_bytes(data * 2)
    clip = open_clip(tmp_path / "two.ts")
    assert (clip.count, clip.fps, clip.times) == (50, 25, None)
    assert not any("times are kept" in note for note in clip.notes)
    copied(clip.path, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.duration / 1e6 == pytest.approx(2, abs=0.01)


def test_sound_that_outlasts_its_part_is_not_lost(tmp_path):
    """A second of pictures with two seconds of sound: the pictures of the next part wait."""
    with (
        av.open(str(make_synced(tmp_path / "long.ts"))) as source,
        av.open(str(tmp_path / "a.ts"), "w") as output,
    ):
        streams = [output.add_stream_from_template(s) for s in source.streams]
        for packet in source.demux():
            if packet.size and (packet.stream.type == "audio" or packet.pts < 90000 + 7200):
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    (tmp_path / "two.ts").write_bytes((tmp_path / "a.ts").read_bytes() * 2)
    copied(tmp_path / "two.ts", tmp_path / "b.mp4")
    assert_in_sync(tmp_path / "b.mp4", parts=2)


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_missing_packets_within_a_part_are_damage(tmp_path, rng, codec, place):
    frames = list(rng.random((25, 64, 64, 3), dtype=np.float32))
    path = make_video(tmp_path / "a.ts", frames, codec=codec, options={"b": "4000000"})
    data = path.read_bytes()
    cut = 188 * int(len(data) // 188 * place)
    path.write_bytes(data[:cut] + data[cut + 2 * 188 :])
    with pytest.raises(InputError, match="is damaged or cut short at frame"):
        list(open_clip(path))


def test_a_truncated_part_is_damage(tmp_path, rng):
    frames = list(rng.random((25, 64, 64, 3), dtype=np.float32))
    data = make_video(tmp_path / "a.ts", frames).read_bytes()
    (tmp_path / "two.ts").write_bytes(data[: 188 * (len(data) // 188 - 3)] + data)
    with pytest.raises(InputError, match="at frame"):
        list(open_clip(tmp_path / "two.ts"))


def test_hidden_frames_and_a_variable_rate(tmp_path):
    """VP8 stores packets that show nothing, so only decoded frames have reliable times."""
    keep = [i for i in range(60) if not 5 <= i <= 11]
    options = {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "200000"}
    make_synced(tmp_path / "a.webm", 2.4, codec="libvpx", sound="libopus", keep=keep, options=options)
    clip = open_clip(tmp_path / "a.webm")
    assert clip.count == len(keep)
    np.testing.assert_allclose([float(t) for t in clip.times], np.array(keep) / 25, atol=0.001)
    for target in ("b.mp4", "b.mkv"):
        copied(clip.path, tmp_path / target)
        assert_in_sync(tmp_path / target)
        assert flashes(tmp_path / target)[0] - flashes(clip.path)[0] == pytest.approx(0, abs=0.02)
        assert float(MOMENT) == pytest.approx(flashes(clip.path)[0], abs=0.03)


def test_constant_rates_stay_constant_when_frames_are_decoded(tmp_path, rng):
    for rate in (Fraction(30000, 1001), Fraction(24), Fraction(50)):
        clip = open_clip(make_video(tmp_path / "a.webm", moving(rng, 40, 64, 64), codec="libvpx", rate=rate))
        assert (clip.count, clip.fps, clip.times) == (40, rate, None)
