"""What the tests of evaluations share: random networks, and two clips as ground truth."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from ldip_jax.evaluation.command import main
from tests.networks import HR, Networks, write_networks
from tests.scenes import blocks

COUNT = 8


class Result(NamedTuple):
    """What `eval.py` gave."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """Files of random networks."""
    return write_networks(tmp_path_factory.mktemp("networks"))


def write_clip(folder: Path, seed: int, count: int = COUNT) -> Path:
    """Frames of a picture that goes by, two pixels a frame."""
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
    """Runs `eval.py` on the two clips with the random networks, unless the words say otherwise."""
    monkeypatch.setattr(os, "environ", os.environ.copy())

    def run(*words: object) -> Result:
        defaults = {
            "--dataset": "video_folder",
            "--data_dir": clips,
            "--backbone": networks.backbone,
            "--checkpoint": "none",
            "--matcher": "flow",
            "--output": "out",
        }
        rest = [word for pair in defaults.items() if pair[0] not in words for word in pair]
        capsys.readouterr()
        try:
            code = main([str(word) for word in [*words, *rest, "--no-lpips"]])
        except SystemExit as end:
            code = end.code
        result = Result(code, *capsys.readouterr())
        assert "Traceback" not in result.err
        return result

    return run
