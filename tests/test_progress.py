"""Progress: a bar on a terminal, lines in a log, and never beyond the end."""

import io
import sys
import warnings

import pytest

from ldip_jax import progress as module
from ldip_jax.progress import Progress

COSTS = {"small": 0.1, "large": 0.7}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def eager(monkeypatch):
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(module, "LOG_SECONDS", -1.0)


def run(monkeypatch, stream, work, pieces):
    monkeypatch.setattr(sys, "stderr", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Progress("a.mp4", work, COSTS) as progress:
            for kind in pieces:
                progress.advance(kind)
                if progress._bar is not None:
                    progress._bar.refresh()
    return stream.getvalue()


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_sums_of_fractions_end_at_100_percent(monkeypatch, eager, stream):
    """0.1 three times is more than 0.3."""
    text = run(monkeypatch, stream(), {"small": 3, "large": 1}, ["small", "small", "small", "large"])
    assert "100%" in text
    assert "101%" not in text


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_more_work_than_expected_stays_at_100_percent(monkeypatch, eager, stream):
    assert "100%" in run(monkeypatch, stream(), {"small": 1}, ["small", "large", "large"])


def test_a_log_gets_lines_with_the_time_left(monkeypatch, eager):
    lines = run(monkeypatch, io.StringIO(), {"small": 3, "large": 1}, ["small", "large"]).splitlines()
    assert [line.split(",")[0] for line in lines] == ["a.mp4: 10%", "a.mp4: 80%"]
    assert all(line.endswith(" left") for line in lines)
    assert not any("\r" in line for line in lines)


def test_work_of_unknown_amount_shows_the_time_so_far(monkeypatch, eager):
    assert run(monkeypatch, io.StringIO(), None, ["small"]) == "a.mp4: 00:00 so far\n"
    text = run(monkeypatch, Terminal(), None, ["small"])
    assert "a.mp4: 00:00" in text
    assert "%" not in text


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_short_work_prints_nothing(monkeypatch, stream):
    assert run(monkeypatch, stream(), {"small": 2}, []).strip() == ""


def test_the_bar_is_cleared_at_the_end(monkeypatch, eager):
    text = run(monkeypatch, Terminal(), {"small": 2}, ["small", "small"])
    assert text.rsplit("\r", 1)[1].strip() == ""
