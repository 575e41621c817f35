"""`ldip upscale` on parts of clips, several clips, damaged clips and pipes."""

import errno
import itertools
import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from ldip_jax.cli import upscale_clip, upscale_preview
from ldip_jax.inference import memory_plan, streaming, upscaler
from ldip_jax.media import sinks
from ldip_jax.media.background import WriteBehind
from ldip_jax.media.reader import open_clip
from ldip_jax.media.run_folder import RunFolder
from ldip_jax.weights.load import load_weights
from tests.cli.clips import listing, random_frames, read_folder, write_folder
from tests.media.make import make_video, moving, packets
from tests.networks import HR, LR

COUNT = 12


@pytest.fixture
def video(tmp_path, rng):
    return make_video(tmp_path / "a.mp4", moving(rng, COUNT, *LR), sound=COUNT / 25, options={"bf": "0"})


@pytest.fixture
def images(tmp_path, rng):
    return write_folder(tmp_path / "in", random_frames(rng, COUNT))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("words", "first", "stop"),
    [
        (("--start", 3, "--end", 7), 3, 7),
        (("--start", "00:00.2", "--frames", 4), 5, 9),
        (("--end", "00:00:00.24"), 0, 6),
        (("--frames", 100), 0, COUNT),
    ],
)
def test_a_part_of_a_clip(upscale, video, tmp_path, words, first, stop):
    assert upscale(video, tmp_path / "out", *words).code == 0
    assert names(tmp_path / "out") == [f"{number:08d}.png" for number in range(first, stop)]
    assert upscale(video, tmp_path / "b.mp4", *words).code == 0
    with open_clip(tmp_path / "b.mp4") as part:
        assert part.count == stop - first
    times = [seconds for seconds, _ in packets(tmp_path / "b.mp4", "audio")]
    assert -0.03 < times[0] < 0.03
    assert (stop - first) / 25 - 0.05 < times[-1] < (stop - first) / 25 + 0.05 * (stop == COUNT)
    given = {data: seconds for seconds, data in packets(video, "audio")}
    for seconds, data in packets(tmp_path / "b.mp4", "audio"):
        # Pictures and sound stay in sync.
        assert abs(given[data] - seconds - first / 25) < 0.002


def test_invalid_parts_of_a_clip(upscale, video, images, tmp_path):
    out = tmp_path / "out"
    assert "has only 12 frames" in upscale(video, out, "--start", 12).message
    assert "no frame lies between" in upscale(video, out, "--start", 5, "--end", 5).message
    assert "images have no times" in upscale(images, out, "--start", "00:00.1").message
    assert "is neither a frame" in upscale(video, out, "--start", "x").err


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("24", Fraction(24)),
        ("23.976", Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        ("12.5", Fraction(25, 2)),
        ("60000/1001", Fraction(60000, 1001)),
    ],
)
def test_images_get_a_frame_rate(upscale, images, tmp_path, text, rate):
    out = tmp_path / "out.mp4"
    assert upscale(images, out, "--fps", text, "--start", "00:00.1").code == 0
    with open_clip(out) as clip:
        assert clip.fps == rate
        # From the frame that is on screen at that time.
        assert clip.count == COUNT - int(rate / 10)


def test_invalid_frame_rates(upscale, video, images, tmp_path):
    for text in ("0", "-24", "x", "1/0", "1001", "1e-99999999999"):
        assert "is not a frame rate" in upscale(images, tmp_path / "out.mp4", "--fps", text).err
    assert "has a frame rate already" in upscale(video, tmp_path / "out.mp4", "--fps", 24).message


def test_a_preview_is_softened_as_its_first_part_needs(upscale, networks, images, tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr("ldip_jax.inference.upscaler.MEASURED", (load_weights(networks.backbone).name,))
    monkeypatch.setattr("ldip_jax.inference.upscaler.find_softening", lambda *_: tried.append(1) or 0.45)
    done = upscale(images, tmp_path / "found", "--preview", 2)
    assert done.code == 0
    assert len(tried) == 1
    assert done.err.count("softened by 0.45 pixels first") == 1
    assert upscale(images, tmp_path / "given", "--preview", 2, "--soften", 0.45).code == 0
    np.testing.assert_array_equal(read_folder(tmp_path / "found"), read_folder(tmp_path / "given"))


def test_a_preview_shows_frames_from_across_the_clip(upscale, networks, images, tmp_path, rng):
    still = tmp_path / "photo.png"
    Image.fromarray(rng.integers(0, 256, (38, 46, 3), dtype=np.uint8)).save(still)
    words = ("--lrrf", networks.trained, "--matcher", "flow", "--key-stride", 4, "--refs-as-given")
    words += ("--report", tmp_path / "page.html", "--ref", f"{still}@9")
    done = upscale(images, tmp_path / "out", "--preview", 2, *words)
    assert done.code == 0
    # The key-frames next to frames 3 and 9.
    assert names(tmp_path / "out") == ["shot_04.png", "shot_09.png"]
    assert "key-frame 9: photo" in done.err
    assert (tmp_path / "page.html").stat().st_size > 0
    done = upscale(images, "--preview", 1, "--report", tmp_path / "other.html")
    assert done.code == 0
    assert upscale(images, tmp_path / "b.mp4", "--preview", 1).code == 2


def test_frames_of_a_preview_that_share_key_frames_are_made_together(upscale, networks, images, tmp_path):
    """All of this short clip is needed for any of them, so they are what a run makes of the whole clip."""
    words = ("--lrrf", networks.trained, "--matcher", "flow", "--key-stride", 6)
    profile = tmp_path / "profile.json"
    done = upscale(images, tmp_path / "shown", "--preview", 3, *words, "--profile", profile)
    assert done.code == 0
    assert upscale(images, tmp_path / "all", *words).code == 0
    assert "frames to show: 2, 6, 10\n" in done.err
    assert names(tmp_path / "shown") == ["shot_02.png", "shot_06.png", "shot_10.png"]
    np.testing.assert_array_equal(read_folder(tmp_path / "shown"), read_folder(tmp_path / "all")[[2, 6, 10]])
    measured = json.loads(profile.read_text())
    assert measured["frames"] == 3
    assert measured["key_frames"] == 3


@pytest.mark.parametrize("seed", range(20))
def test_parts_of_a_preview_hold_what_their_frames_need(seed):
    rng = np.random.default_rng(seed)
    count, stride = int(rng.integers(1, 400)), int(rng.integers(1, 30))
    wanted = int(rng.integers(1, 2 * count))
    parts = upscale_preview._preview_parts(count, wanted, stride, ())
    places = [place for part in parts for place in part.places]
    assert places == sorted(set(places))
    assert len(places) == min(count, wanted)
    reach = streaming.overlap(stride)
    for part in parts:
        assert part.first % stride == 0
        assert part.first <= max(0, part.places[0] - reach)
        assert part.stop == min(count, part.places[-1] + reach + 1)
        assert len(part.places) == 1 or part.stop - part.first <= upscale_preview.LONGEST_PART
    # Nothing is matched twice that could be matched once.
    for before, after in itertools.pairwise(parts):
        together = after.places[0] + reach + 1 - before.first
        assert (
            after.places[0] - before.places[-1] > stride or together > upscale_preview.LONGEST_PART - stride
        )


def test_several_clips_into_a_folder(upscale, video, images, tmp_path, rng):
    folder = tmp_path / "videos"
    folder.mkdir()
    make_video(folder / "b.avi", moving(rng, 3, *LR), codec="mpeg4")
    make_video(folder / "c.mov", moving(rng, 3, *LR))
    (folder / "broken.mp4").write_bytes(b"nothing")
    (folder / "notes.txt").write_text("x")
    log = tmp_path / "log.jsonl"
    out = tmp_path / "out"
    done = upscale(video, images, folder, "--output-dir", out, "--log-json", log)
    assert done.code == 2
    assert names(out) == ["a.mp4", "b.mkv", "c.mov", "in"]
    assert f"ldip: {folder}/broken.mp4: " in done.err
    assert done.out.splitlines()[-1] == f"{out}: 4 of 5 clips are done, 1 failed"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert {event["clip"] for event in events if event["event"] == "failure"} == {f"{folder}/broken.mp4"}
    # With --resume, finished clips are not made again.
    before = listing(out)
    again = upscale(video, images, folder / "c.mov", "--output-dir", out, "--resume", "--quiet")
    assert (again.code, again.out, again.err) == (0, "", "")
    assert listing(out) == before


def test_processes_share_clips_and_take_over_from_a_dead_one(upscale, tmp_path, rng):
    sources = [write_folder(tmp_path / f"clip{number}", random_frames(rng, 2)) for number in range(4)]
    out = tmp_path / "out"
    out.mkdir()
    held = RunFolder(out / "clip1")
    held.open({}, resume=False, count_intact=len)
    done = upscale(*sources, "--output-dir", out, "--shard", "0/2")
    assert done.code == 0
    assert names(out) == [".clip1.ldip", "clip0", "clip2", "clip3"]
    assert "3 of 4 clips are done, 1 are being made by other processes" in done.out
    # Its process dies: the folder stays, the lock does not.
    held.close()
    done = upscale(*sources, "--output-dir", out, "--shard", "1/2")
    assert done.code == 0
    assert names(out) == ["clip0", "clip1", "clip2", "clip3"]


def with_queues(monkeypatch, queue):
    """Queue up to this many frames, whatever the memory."""
    plan = memory_plan.plan_memory
    monkeypatch.setattr(
        upscaler, "plan_memory", lambda *args: replace(plan(*args), read_ahead=queue, write_behind=queue)
    )


@pytest.mark.parametrize("name", ["b.mkv", "out"])
def test_reading_ahead_and_writing_behind_change_nothing(upscale, video, tmp_path, monkeypatch, name):
    queues, outputs = [], []
    behind = WriteBehind
    monkeypatch.setattr(upscale_clip, "WriteBehind", lambda most: queues.append(most) or behind(most))
    for queue in (0, 1, 7):
        with_queues(monkeypatch, queue)
        folder = tmp_path / str(queue)
        folder.mkdir()
        assert upscale(video, folder / name).code == 0
        outputs.append(listing(folder))
    assert queues == [0, 1, 7]
    assert outputs[0] == outputs[1] == outputs[2]
    assert outputs[0]


@pytest.mark.parametrize("queue", [0, 3])
def test_a_full_disk_is_reported_in_one_line_from_any_thread(upscale, images, tmp_path, monkeypatch, queue):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with_queues(monkeypatch, queue)
    monkeypatch.setattr(sinks, "write_png", full)
    out = tmp_path / "out"
    done = upscale(images, out)
    assert done.code == 2
    assert done.message.startswith(f"ldip: {out}: cannot be written (No space left on device)")
    assert names(tmp_path) == ["in"]


def test_incompatible_arguments(upscale, video, images, tmp_path):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "a.mp4").write_bytes(video.read_bytes())
    Image.new("RGB", (8, 8)).save(mixed / "a.png")
    out = ("--output-dir", tmp_path / "out")
    assert "holds videos (a.mp4) and images (a.png)" in upscale(mixed, *out).message
    assert "would share its output a.mp4" in upscale(video, mixed / "a.mp4", *out).message
    assert "give --output-dir too" in upscale(video, tmp_path / "b.mp4", "--shard", "0/2").message
    for words in (("--preview", 1), ("--profile", tmp_path / "profile.json")):
        assert "leave --output-dir out" in upscale(video, *out, *words).message
    done = upscale(video, video, video)
    assert done.code == 2
    assert "for several clips, give --output-dir DIR" in done.err
    done = upscale("--ref", "x.png", video, tmp_path / "b.mp4")
    assert done.code == 2
    assert f"--ref took {video}, {tmp_path / 'b.mp4'}: give IN and OUT first" in done.err
    assert not (tmp_path / "out").exists()


def test_in_and_out_may_come_between_options(upscale, images, tmp_path):
    assert upscale("--scale", 2, images, "--bit-depth", 16, tmp_path / "out").code == 0
    assert read_folder(tmp_path / "out").shape == (COUNT, 2 * LR[0], 2 * LR[1], 3)


@pytest.fixture
def damaged(tmp_path, rng):
    """A clip of PNG frames, one of which is damaged in the middle."""
    source = make_video(tmp_path / "whole.mov", moving(rng, COUNT, *LR), codec="png", layout="rgb24")
    path = tmp_path / "damaged.mov"
    data = source.read_bytes()
    with av.open(str(source)) as container:
        frame = [bytes(packet) for packet in container.demux(video=0) if packet.size][7]
    place = data.index(frame) + len(frame) // 2
    path.write_bytes(data[:place] + bytes(byte ^ 255 for byte in data[place : place + 4]) + data[place + 4 :])
    return path


def test_a_damaged_frame_stops_the_clip_unless_it_is_skipped_or_replaced(upscale, damaged, tmp_path):
    done = upscale(damaged, tmp_path / "stop.mkv")
    assert done.code == 2
    assert "at frame 7; " in done.message
    assert f"the 7 frames before it are in {tmp_path / 'stop.partial.mkv'}" in done.message
    assert not (tmp_path / "stop.mkv").exists()
    with open_clip(tmp_path / "stop.partial.mkv") as part:
        assert part.count == 7
    done = upscale(damaged, tmp_path / "skip", "--on-error", "skip")
    assert done.code == 0
    assert "1 damaged frame left out" in done.err
    assert names(tmp_path / "skip") == [f"{number:08d}.png" for number in range(COUNT) if number != 7]
    done = upscale(damaged, tmp_path / "hold.mkv", "--on-error", "hold")
    assert done.code == 0
    assert "1 damaged frame replaced" in done.err
    with open_clip(tmp_path / "hold.mkv") as held, open_clip(damaged, lenient=True) as into:
        assert (held.count, held.times) == (into.count, None) == (COUNT, None)


def test_a_damaged_image_in_a_folder(upscale, images, tmp_path):
    (images / "shot_04.png").write_bytes((images / "shot_04.png").read_bytes()[:-90])
    assert upscale(images, tmp_path / "stop").code == 2
    assert len(names(tmp_path / "stop.partial")) == 4
    assert upscale(images, tmp_path / "hold", "--on-error", "hold").code == 0
    assert len(names(tmp_path / "hold")) == COUNT


def test_pipes_carry_y4m(networks, video, tmp_path):
    words = [sys.executable, "-m", "ldip_jax.cli.start", "upscale", "-", "-", "--backbone", networks.backbone]
    with av.open(str(video)) as container:
        planes = [frame.reformat(format="yuv420p") for frame in container.decode(video=0)]
    head = f"YUV4MPEG2 W{LR[1]} H{LR[0]} F25:1 Ip A1:1 C420mpeg2\n".encode()
    frames = [b"FRAME\n" + frame.to_ndarray().tobytes() for frame in planes]
    done = subprocess.run([*words, "--lrrf", "none"], input=head + b"".join(frames), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"YUV4MPEG2 W{HR[1]} H{HR[0]} F25:1 Ip A1:1 C420mpeg2 ".encode())
    (tmp_path / "out.y4m").write_bytes(done.stdout)
    with open_clip(tmp_path / "out.y4m") as clip:
        assert (clip.count, clip.height, clip.width, clip.fps) == (COUNT, *HR, 25)
    bad = subprocess.run([*words, "--lrrf", "none"], input=b"no video", capture_output=True)
    assert bad.returncode == 2
    assert b"pipe YUV4MPEG2 into it" in bad.stderr


def test_quiet_prints_nothing_and_guessed_colours_are_noted_only_if_verbose(upscale, video, tmp_path):
    done = upscale(video, tmp_path / "b.mp4", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert "is assumed from its size" not in upscale(video, tmp_path / "c.mp4").err
    assert "is assumed from its size" in upscale(video, tmp_path / "d.mp4", "--verbose").err


def test_matches_are_shown_without_writing_frames(upscale, networks, images, tmp_path, rng):
    out, still = tmp_path / "matches", tmp_path / "photo.png"
    Image.fromarray(rng.integers(0, 256, (38, 46, 3), dtype=np.uint8)).save(still)
    words = ("--lrrf", networks.trained, "--matcher", "flow", "--ref", still)
    done = upscale(images, "--matches", out, "--refs-as-given", "--ref-threshold", 0, *words)
    assert done.code == 0
    found = json.loads((out / "matches.json").read_text())
    assert [row["frame"] for row in found["matches"]] == [0, 8]
    assert [row["stills"]["photo"]["used"] for row in found["matches"]] == [True, True]
    pictures = [f"{number:08d}{end}.jpg" for number in (0, 8) for end in ("", "_0")]
    assert names(out) == [*pictures, "matches.json"]
    with Image.open(out / "00000008_0.jpg") as picture:
        assert picture.size == HR[::-1]
    assert found["advice"] == done.out.splitlines() == ["A still matches in every part of the clip."]
    assert "exists already" in upscale(images, "--matches", out, *words).message
    done = upscale(images, "--matches", out, *words, "--overwrite", "--ref-threshold", 1)
    assert done.code == 0
    assert "No still matches from frame 0 to frame 11: add a sharp one" in done.out
    assert "photo is used nowhere (nothing in common" in done.out


def test_matches_need_stills_and_lrrf_and_allow_no_other_output(upscale, networks, images, tmp_path):
    out = tmp_path / "matches"
    assert "give some with --ref" in upscale(images, "--matches", out).message
    assert "makes nothing else" in upscale(images, tmp_path / "o", "--matches", out).message
    profile = "--profile", tmp_path / "profile.json"
    assert "makes frames" in upscale(images, "--matches", out, *profile).message
    assert "makes frames" in upscale(images, tmp_path / "o", "--dry-run", *profile).message
    still = next(images.iterdir())
    assert "only LRRF uses stills" in upscale(images, "--matches", out, "--ref", still).message
    assert not out.exists()
