"""Fixtures shared by the tests of the command line."""

import os
from collections.abc import Callable
from typing import NamedTuple

import pytest

from ldip_jax.cli.main import main
from tests.networks import Networks, write_networks


class Result(NamedTuple):
    """The outcome of a command: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The line that says what is wrong: one line only, and the last."""
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
    """Runs `ldip` with the given arguments in this process."""
    # Environment variables that the command sets must not outlive the test.
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
    """Runs `ldip upscale` with the random backbone, and without LRRF unless it is given."""

    def run(*words: object) -> Result:
        backbone = () if "--backbone" in words else ("--backbone", networks.backbone)
        lrrf = () if "--lrrf" in words else ("--lrrf", "none")
        return ldip("upscale", *words, *backbone, *lrrf)

    return run
