"""The ComfyUI node against the contract of ComfyUI's nodes: its declarations, and tensors in and out."""

import importlib.util
import inspect
from pathlib import Path

import numpy as np
import pytest

from ldip_jax import Upscaler
from tests.networks import LR, write_networks

torch = pytest.importorskip("torch")
FOLDER = Path(__file__).parents[2] / "examples" / "comfyui"


@pytest.fixture(scope="module")
def package():
    """The folder, imported by its path, as ComfyUI does."""
    spec = importlib.util.spec_from_file_location("custom_ldip", FOLDER / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    return write_networks(tmp_path_factory.mktemp("networks"))


def test_the_declarations(package):
    assert package.NODE_CLASS_MAPPINGS.keys() == package.NODE_DISPLAY_NAME_MAPPINGS.keys()
    for node in package.NODE_CLASS_MAPPINGS.values():
        inputs = node.INPUT_TYPES()
        assert set(inputs) <= {"required", "optional", "hidden"}
        names = [name for group in inputs.values() for name in group]
        taken = inspect.signature(getattr(node, node.FUNCTION)).parameters
        assert names == list(taken)[1:]
        assert [name for name, p in taken.items() if p.default is not p.empty] == list(inputs["optional"])
        for kind, options in (entry for group in inputs.values() for entry in group.values()):
            assert kind in ("IMAGE", "FLOAT", "INT") or (kind and all(isinstance(x, str) for x in kind))
            assert options.get("min", 0) <= options.get("default", 0) <= options.get("max", 0)
        assert node.RETURN_TYPES == ("IMAGE",)
        assert len(node.RETURN_NAMES) == len(node.RETURN_TYPES)
        assert isinstance(node.CATEGORY, str)


def test_the_offered_backbones_exist(package):
    from ldip_jax.weights.catalogue import CATALOGUE

    assert set(package.BACKBONES) <= set(CATALOGUE)


def test_tensors_in_and_out(package, networks, monkeypatch):
    """A batch with alpha, values outside [0, 1], and two stills."""
    rng = np.random.default_rng(3)
    frames = rng.uniform(-0.1, 1.1, (3, *LR, 4)).astype(np.float32)
    stills = rng.uniform(size=(2, 32, 40, 3)).astype(np.float32)
    options = {"matcher": "flow", "ref_threshold": 0.0}
    monkeypatch.setattr(package, "Upscaler", lambda *args, **kwargs: Upscaler(*args, **kwargs, **options))
    bars = []

    class Bar:
        def __init__(self, total):
            bars.append([total])

        def update(self, done):
            bars[-1].append(done)

    monkeypatch.setattr(package, "ProgressBar", Bar)
    node = package.LDIPUpscale()
    files = str(networks.backbone), str(networks.trained)
    (images,) = node.upscale(torch.from_numpy(frames), 4.0, *files, 8, torch.from_numpy(stills))
    expected = Upscaler(*files, scale=4.0, **options)(frames[..., :3].clip(0, 1), list(stills))
    assert (images.dtype, images.shape) == (torch.float32, (3, 32, 40, 3))
    np.testing.assert_array_equal(images.numpy(), expected)
    assert bars == [[3, 1, 1, 1]]
    (single,) = node.upscale(torch.from_numpy(frames[:1]), 4.0, *files, 8)
    assert single.shape == (1, 32, 40, 3)
