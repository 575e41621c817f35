"""Fixtures shared by the tests of evaluations: random networks, and two clips as ground truth."""

import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from ldip_jax.cli.main import main
from ldip_jax.evaluation import runner
from ldip_jax.evaluation.clip_result import FrameScore, ScoredClip
from ldip_jax.evaluation.scores import ClipScore
from ldip_jax.media.color import as_float
from tests.networks import HR, Networks, write_networks
from tests.scenes import blocks

COUNT = 8


class Result(NamedTuple):
    """The outcome of `ldip eval`."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """Files of random networks."""
    return write_networks(tmp_path_factory.mktemp("networks"))


def write_clip(folder: Path, seed: int, count: int = COUNT) -> Path:
    """Frames of a picture that moves past by two pixels a frame."""
    folder.mkdir(parents=True)
    picture = np.round(blocks(seed, HR[0], HR[1] + 2 * count, 40) * 255).astype(np.uint8)
    for index in range(count):
        Image.fromarray(picture[:, 2 * index : 2 * index + HR[1]]).save(folder / f"{index:08d}.png")
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two clips."""
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "one", 1)
    write_clip(folder / "two", 2)
    return folder


@pytest.fixture
def evaluate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, networks: Networks, clips: Path
) -> Callable[..., Result]:
    """Runs `ldip eval` on the two clips with the random networks, unless others are given."""
    monkeypatch.setattr(os, "environ", os.environ.copy())

    def run(*words: object) -> Result:
        defaults = {
            "--dataset": "video_folder",
            "--data-dir": clips,
            "--backbone": networks.backbone,
            "--checkpoint": "none",
            "--matcher": "flow",
            "--output": "out",
        }
        rest = [word for pair in defaults.items() if pair[0] not in words for word in pair]
        capsys.readouterr()
        try:
            code = main([str(word) for word in ["eval", *words, *rest, "--no-lpips"]])
        except SystemExit as end:
            code = end.code
        result = Result(code, *capsys.readouterr())
        assert "Traceback" not in result.err
        return result

    return run


@pytest.fixture
def calls(monkeypatch):
    """Replaces networks: everything is read, and LR frames give the scores. Lists the calls in order."""
    calls = []

    def stand_in(title, footage, lr_frames, selection, stills, upscaler, _, *, lpips, temporal, on_frame):
        low = [frame.mean() for frame in lr_frames]
        frames = []
        truths = footage.hr_frames(selection.scored)
        for (place, *_), frame, truth in zip(selection.outputs, selection.scored, truths, strict=True):
            score = ClipScore(*[low[place]] * len(fields(ClipScore)))
            frames.append(FrameScore(frame, replace(score, tof=None)))
            if on_frame is not None:
                on_frame(frame, as_float(truth))
        calls.append(SimpleNamespace(title=title, low=low, stills=stills, upscaler=upscaler))
        return ScoredClip(frames=frames, seconds=1.0)

    monkeypatch.setattr(runner, "score_clip", stand_in)
    return calls
