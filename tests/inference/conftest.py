"""Fixtures shared by the inference tests."""

import pytest

from ldip_jax.inference import references
from ldip_jax.inference.model import load_model
from ldip_jax.inference.programs import Programs
from tests.inference.stubs import TopLeftMatcher
from tests.networks import Networks, write_networks


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """Files of networks with random weights."""
    return write_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def model(networks):
    """A backbone with LRRF, both with random weights."""
    return load_model(str(networks.backbone), str(networks.trained), native=True)


@pytest.fixture(scope="module")
def programs(model):
    return Programs(model.net, model.params)


@pytest.fixture
def matcher(monkeypatch):
    """Replaces an upscaler's matcher; stills are noise, and neither calibrated nor rejected.

    Beside noise, no key-frame counts as damaged; measuring that takes a slow program.
    """
    stub = TopLeftMatcher()
    monkeypatch.setattr(references, "calibrate", lambda pair, match, scale: (pair, None))
    monkeypatch.setattr(references, "rejection_reason", lambda *_: "")
    monkeypatch.setattr(references, "find_damage", lambda pair, match, scale: 0.0)
    monkeypatch.setattr(references, "load_matcher", lambda *args, **kwargs: stub)
    return stub
