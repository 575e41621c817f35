"""What a run logs: every step once, even if the run is resumed, by the first process; and contact sheets."""

import json

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ldip_jax.errors import InputError
from ldip_jax.training.log import KeyFrameImages, RunLog, contact_sheet


def curve(folder, name):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return [(event.step, round(event.value, 4)) for event in events.Scalars(name)]


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_metrics_reach_tensorboard_json_and_the_console(tmp_path, capsys):
    with RunLog(tmp_path, steps=100, batch_size=4) as log:
        log.progress(10, {"loss": 0.25})
        log.metrics(10, {"psnr": float("nan")})
    assert curve(tmp_path, "loss") == [(10, 0.25)]
    first, second = lines(tmp_path)
    assert (first["step"], first["loss"]) == (10, 0.25)
    assert first["samples_per_second"] == pytest.approx(4 * first["steps_per_second"])
    assert second == {"step": 10, "psnr": None}
    console = capsys.readouterr().out
    assert console.startswith("step 10/100  loss 0.25  ")
    assert console.count("\n") == 1
    assert "left" in console


def test_the_throughput_excludes_time_without_training(tmp_path, monkeypatch, capsys):
    clock = [100.0]
    monkeypatch.setattr("ldip_jax.training.log.time.monotonic", lambda: clock[0])
    with RunLog(tmp_path, steps=30, batch_size=2, first_step=10) as log:
        clock[0] += 5.0
        with log.untimed():
            clock[0] += 1000.0
        log.progress(20, {})
    assert lines(tmp_path)[0]["steps_per_second"] == pytest.approx(2.0)
    assert "00:05 left" in capsys.readouterr().out


def test_a_resumed_run_logs_no_step_twice(tmp_path):
    with RunLog(tmp_path, steps=9, batch_size=1) as log:
        for step in range(1, 7):
            log.metrics(step, {"loss": float(step)})
    # Killed while writing a line.
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 7, "lo')
    with RunLog(tmp_path, steps=9, batch_size=1, first_step=4) as log:
        for step in range(5, 9):
            log.metrics(step, {"loss": 10.0 * step})
    expected = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 50), (6, 60), (7, 70), (8, 80)]
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == expected
    assert curve(tmp_path, "loss") == expected


def test_an_image_reaches_tensorboard_unchanged(tmp_path, rng):
    image = rng.integers(0, 256, (20, 30, 3), np.uint8)
    with RunLog(tmp_path, steps=9, batch_size=1) as log:
        log.image(3, "sample", image)
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    events.Reload()
    (stored,) = events.Images("sample")
    (tmp_path / "stored.png").write_bytes(stored.encoded_image_string)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "stored.png")), image)


def test_other_processes_are_silent(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    with RunLog(tmp_path / "run", steps=9, batch_size=1) as log:
        log.progress(3, {"loss": 1.0})
        log.image(3, "sample", np.zeros((2, 2, 3), np.uint8))
    assert not (tmp_path / "run").exists()
    assert not capsys.readouterr().out


def test_a_log_that_cannot_be_written_is_reported_in_one_line(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(InputError, match="cannot be written") as caught:
        RunLog(tmp_path / "run", steps=9, batch_size=1)
    assert "\n" not in str(caught.value)


def test_a_contact_sheet_shows_every_picture(rng):
    target = rng.integers(0, 256, (5, 48, 64, 3), np.uint8)
    lr = target[:, 1::4, 1::4]
    canvas = rng.integers(0, 256, (3, 40, 40, 3), np.uint8)
    sizes = np.array([(40, 40), (30, 20), (8, 8)])
    confidence = np.full((3, 48, 64, 1), 0.5, np.float32)
    key = KeyFrameImages(1, canvas, sizes, np.array([1.0, 1.0, 0.0]), confidence)
    sheet = contact_sheet(lr, target / np.float32(255), target, [key])
    assert sheet.dtype == np.uint8

    def shown(image):
        height, width, _ = image.shape
        windows = np.lib.stride_tricks.sliding_window_view(sheet, (height, width), axis=(0, 1))
        corners = np.argwhere((windows[..., 0, 0] == image[0, 0]).all(axis=-1))
        return sum(np.array_equal(sheet[y : y + height, x : x + width], image) for y, x in corners)

    # The output equals the target here, so each is shown twice.
    assert shown(target[2]) == 2
    assert shown(target[1]) == 2
    assert shown(np.kron(lr[2], np.ones((4, 4, 1), np.uint8))) == 1
    assert shown(canvas[0]) == 1
    assert shown(canvas[1, :30, :20]) == 1
    assert shown(canvas[2, :8, :8]) == 0
    assert shown(np.full((48, 64, 3), 128, np.uint8)) == 2


def test_a_contact_sheet_of_an_output_that_is_not_finite(rng):
    target = rng.integers(0, 256, (1, 8, 8, 3), np.uint8)
    output = np.full((1, 8, 8, 3), np.nan, np.float32)
    assert contact_sheet(target[:, ::4, ::4], output, target, []).shape[2] == 3
