"""Jobs that a page starts: runs of `ldip upscale` in separate processes."""

import io
import json
import re
import threading
import time
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ldip_jax.studio.job import Job
from tests.media.make import make_video, moving
from tests.networks import HR, LR


def job(tmp_path, *words, finish=lambda: None, turn=None):
    return Job("run", 1, words, tmp_path / "log.jsonl", turn or threading.Lock(), finish)


@pytest.mark.usefixtures("in_process")
def test_from_clip_and_stills_to_matches_preview_and_frames(client, studio, clip, photo):
    client.upload("clip", "my film.mp4", clip)
    client.upload("still", "holiday.png", photo)
    assert client.start("matches").status == 200
    state = client.wait("matches")
    assert state["jobs"]["matches"]["state"] == "done", state["jobs"]["matches"]["error"]
    rows = state["matches"]["rows"]
    assert [(row["frame"], row["seconds"]) for row in rows] == [(0, 0.0), (8, 0.32)]
    shown = rows[0]["stills"][state["stills"][0]["key"]]
    assert shown["used"]
    assert state["matches"]["advice"] == ["A still matches in every part of the clip."]
    for name in (rows[0]["picture"], shown["picture"]):
        picture = client.session_request("GET", f"/picture/{name}")
        assert Image.open(io.BytesIO(picture.body)).size == HR[::-1]

    client.start("preview")
    state = client.wait("preview")
    assert [row["frame"] for row in state["preview"]] == [2, 6, 10]
    sizes = [
        Image.open(io.BytesIO(client.session_request("GET", f"/picture/{side}-6").body)).size
        for side in ("before", "after")
    ]
    assert sizes == [LR[::-1], HR[::-1]]
    assert state["matches"] is not None

    client.start("run", format="png")
    state = client.wait("run")
    assert state["result"]["name"] == "my film-x4.zip"
    assert not state["result"]["fetched"]
    done = client.session_request("GET", "/result")
    assert "filename*=utf-8''my%20film-x4.zip" in done.headers["content-disposition"].lower()
    with zipfile.ZipFile(io.BytesIO(done.body)) as archive:
        assert archive.namelist() == [f"{number:08d}.png" for number in range(12)]
        preview = client.session_request("GET", "/picture/after-6").body
        # The preview shows what the run produces.
        images = [
            np.asarray(Image.open(io.BytesIO(data)), int) for data in (archive.read("00000006.png"), preview)
        ]
        assert np.abs(images[0] - images[1]).max() <= 2
    assert client.session_request("GET").values["result"]["fetched"]

    # Another still makes matches and previews obsolete, but keeps the result, which took long.
    state = client.upload("still", "other.png", photo).values
    assert state["matches"] is None
    assert state["preview"] == []
    assert state["result"] is not None
    assert client.session_request("GET", "/picture/after-6").status == 404


@pytest.mark.parametrize("words", ["none"], indirect=True)
def test_a_run_is_stopped_and_continued(client, studio, tmp_path, rng):
    frames = moving(rng, 60, *LR)
    video = make_video(tmp_path / "long.mp4", frames, options={"bf": "0"})
    client.upload("clip", "a.mp4", video.read_bytes())
    client.start("run", format="lossless")
    assert "a run is at work" in client.upload("still", "a.png", b"x").values["error"]
    assert "a run is at work" in client.start("preview").values["error"]
    # The first sign of progress comes before the programs are compiled, long before the end.
    client.wait("run", lambda found: found["share"] is not None)
    client.session_request("POST", "/stop")
    state = client.wait("run")
    assert (state["jobs"]["run"]["state"], state["result"]) == ("stopped", None)
    session = studio.sessions[client.key]
    # Nothing is finished before the end of this clip's only window.
    assert state["jobs"]["run"]["resumable"] is None
    (session.folder / ".run.mkv.ldip").mkdir()
    resumable = client.session_request("GET").values["jobs"]["run"]["resumable"]
    assert resumable == {"scale": 4.0, "memory": "", "format": "lossless", "damaged": "stop"}
    client.start("run", format="lossless")
    assert "--resume" in session.jobs["run"].words
    client.wait("run")
    with av.open(io.BytesIO(client.session_request("GET", "/result").body)) as video:
        assert sum(1 for _ in video.decode(video=0)) == 60
    # Neither complete runs nor runs with other settings are continued.
    client.start("run", format="lossless", scale=4)
    client.session_request("POST", "/stop")
    assert not client.wait("run")["jobs"]["run"]["share"]
    client.start("run", format="h264")
    assert "--resume" not in session.jobs["run"].words
    client.session_request("POST", "/stop")
    client.wait("run")


@pytest.mark.parametrize("start", ["matches", "run"])
def test_an_error_is_one_line_with_the_users_names(client, studio, clip, photo, start):
    client.upload("clip", "my film.mp4", clip)
    client.upload("still", "holiday.png", photo)
    session = studio.sessions[client.key]
    # As if another program had damaged it.
    session.stills[0].path.write_bytes(photo[:60])
    client.start(start)
    state = client.wait(start)
    found = state["jobs"][start]
    assert found["state"] == "failed"
    assert found["error"].startswith("holiday.png: ")
    assert "\n" not in found["error"]
    assert str(studio.folder) not in found["error"]
    assert "Traceback" not in found["error"]


@pytest.mark.usefixtures("in_process")
def test_too_little_memory_is_reported_before_any_work(client, clip):
    client.upload("clip", "a.mp4", clip)
    client.start("run", memory="1M")
    state = client.wait("run")
    assert state["jobs"]["run"]["state"] == "failed"
    assert "emory" in state["jobs"]["run"]["error"]
    assert "--" not in state["jobs"]["run"]["error"]
    assert re.match(r"Memory limit 1M: .* need at least \d+M", state["jobs"]["run"]["error"])


def write_progress(tmp_path, *rows):
    lines = [
        json.dumps(
            {"time": f"2026-01-01T00:{at:02d}:00Z", "event": "progress", "share": share, "frames": frames}
        )
        for at, share, frames in rows
    ]
    (tmp_path / "log.jsonl").write_text("".join(f"{line}\n" for line in lines))


def test_the_time_left_is_told_from_the_progress_alone(tmp_path):
    """Not from the time before it, in which programs are compiled."""
    found = job(tmp_path, "upscale")
    write_progress(tmp_path, (20, 0.1, 0))
    found.update()
    assert (found.share, found.left) == (0.1, None)
    write_progress(tmp_path, (20, 0.1, 0), (21, 0.2, 0), (22, 0.3, 4))
    found.update()
    assert found.left == pytest.approx(7 * 60)
    assert found.kept == 0


def test_a_continued_run_says_what_it_kept(tmp_path):
    found = job(tmp_path, "upscale", "--resume")
    write_progress(tmp_path, (0, 0.1, 24), (1, 0.5, 36))
    found.update()
    assert found.kept == 24


@pytest.mark.usefixtures("in_process")
def test_a_damaged_clip_is_reported_without_advice_for_the_command_line(client, tmp_path, rng):
    video = make_video(tmp_path / "a.mp4", moving(rng, 40, *LR), options={"crf": "1", "g": "5"})
    data = bytearray(video.read_bytes())
    for place in range(len(data) // 4, len(data) // 2):
        data[place] = (data[place] * 7 + 13) % 256
    client.upload("clip", "old film.mp4", bytes(data))
    client.start("run")
    found = client.wait("run")["jobs"]["run"]
    assert found["error"].startswith("old film.mp4: is damaged or cut short at frame ")
    assert found["error"].endswith("; to go on after it, choose another entry under Damaged frames")
    # The frame before a damaged one is shown and kept in its place.
    client.start("preview", damaged="hold")
    state = client.wait("preview")
    assert state["jobs"]["preview"]["state"] == "done"
    for shown in state["preview"]:
        assert client.session_request("GET", f"/picture/before-{shown['frame']}").status == 200
    client.start("run", damaged="hold", format="lossless")
    assert client.wait("run")["result"] is not None
    with av.open(io.BytesIO(client.session_request("GET", "/result").body)) as video:
        assert sum(1 for _ in video.decode(video=0)) == 40


def test_messages_hold_no_flags(studio):
    shown = studio.open().with_user_names
    assert shown("they were softened first (--soften none turns this off)") == "they were softened first"
    assert shown("lower --memory") == "lower Memory limit"


def test_only_one_job_runs_at_a_time(tmp_path):
    turn = threading.Lock()
    with turn:
        waiting = job(tmp_path, "info", turn=turn)
        waiting.start()
        waiting.join(0.3)
        assert (waiting.state, waiting.active) == ("waiting", True)
        waiting.stop()
        waiting.join()
    assert waiting.state == "stopped"


def test_an_internal_error_is_not_blamed_on_the_user(tmp_path, capfd):
    def broken():
        raise RuntimeError("broken")

    failed = job(tmp_path, "--version", finish=broken)
    failed.start()
    failed.join()
    assert failed.state == "failed"
    assert failed.error.startswith("internal error")
    assert "RuntimeError: broken" in capfd.readouterr().err


def test_arguments_that_ldip_refuses(tmp_path):
    failed = job(tmp_path, "upscale", "a.mp4", "b.mp4", "--scale", "x")
    failed.start()
    failed.join()
    assert failed.state == "failed"
    assert failed.error == "argument --scale: invalid float value: 'x'"


@pytest.mark.parametrize(
    ("end", "state"),
    [
        ("exit 130", "stopped"),
        ("exit 143", "stopped"),
        ("kill -TERM $$", "stopped"),
        ("kill -KILL $$", "failed"),
    ],
)
def test_an_interruption_from_outside_stops_a_run(tmp_path, monkeypatch, end, state):
    child = tmp_path / "child"
    child.write_text(f"#!/bin/sh\n{end}\n")
    child.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(child))
    interrupted = job(tmp_path, "upscale")
    interrupted.start()
    interrupted.join()
    assert interrupted.state == state
    assert ("memory" in interrupted.error) == (state == "failed")


def test_the_child_ends_with_the_studio(tmp_path, clip, words):
    """Its input closes when the studio is killed."""
    import subprocess
    import sys

    frames = moving(np.random.default_rng(0), 300, *LR)
    make_video(tmp_path / "long.mp4", frames)
    words = ["upscale", "long.mp4", "out.mkv", "--log-json", "log.jsonl", *words]
    child = [sys.executable, "-m", "ldip_jax.studio.child", *words]
    with subprocess.Popen(child, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while not Path("log.jsonl").exists() or '"progress"' not in Path("log.jsonl").read_text():
            assert process.poll() is None
            time.sleep(0.02)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 130
    assert not Path("out.mkv").exists()
