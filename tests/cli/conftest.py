"""What the tests of the command line share."""

import os
from collections.abc import Callable
from typing import NamedTuple

import pytest

from ldip_jax.cli.main import main
from tests.networks import Networks, write_networks


class Result(NamedTuple):
    """What a command gave: its exit code, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line that says what is wrong, which is the last."""
        lines = self.err.splitlines()
        assert "Traceback" not in self.err
        assert [line for line in lines if line.startswith("ldip")] == lines[-1:]
        return lines[-1]


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """Files of random networks."""
    return write_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def ldip(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `ldip` with these words in this process."""
    # What the command sets for its process must not stay.
    monkeypatch.setattr(os, "environ", os.environ.copy())

    def run(*words: object) -> Result:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def upscale(ldip: Callable[..., Result], networks: Networks) -> Callable[..., Result]:
    """Runs `ldip upscale` on the random backbone, alone unless the words say otherwise."""

    def run(*words: object) -> Result:
        backbone = () if "--backbone" in words else ("--backbone", networks.backbone)
        lrrf = () if "--lrrf" in words else ("--lrrf", "none")
        return ldip("upscale", *words, *backbone, *lrrf)

    return run
