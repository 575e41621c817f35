"""GMFlow against a PyTorch twin with random weights, from a file with the published names."""

import numpy as np
import pytest

from ldip_jax.models.networks.gmflow import GMFlow
from ldip_jax.models.trainable import quick_jit
from ldip_jax.weights.load import load_weights

torch = pytest.importorskip("torch")
from tests.parity import torch_gmflow as twins  # noqa: E402
from tests.parity.stages import channels_last, clip  # noqa: E402


@pytest.fixture(scope="module")
def twin():
    torch.manual_seed(0)
    net = twins.GMFlow().eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, torch.nn.Linear):
            # Signals keep their magnitude, so that flows are not means over the whole map.
            module.weight.normal_(std=module.in_features**-0.5)
        elif isinstance(module, torch.nn.LayerNorm):
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(std=0.3)
    return net


def test_flows_equal_torch(twin, tmp_path):
    torch.save(twin.state_dict(), tmp_path / "gmflow.pth")
    weights = load_weights(tmp_path / "gmflow.pth")
    assert weights.network == "gmflow"
    assert sum(parameter.numel() for parameter in twin.parameters()) == 4_716_720
    a, b, c = clip(3, 3, 64, 96)
    pairs = np.stack([a, c]), np.stack([b, a])
    expected = map(channels_last, twin(*(torch.tensor(x).permute(0, 3, 1, 2) for x in pairs)))
    flows = quick_jit(GMFlow().apply)({"params": weights.params}, *pairs)
    for ours, theirs in zip(flows, expected, strict=True):
        assert np.abs(theirs).max() > 20.0
        # Softmax over sharp scores amplifies rounding: both differ from float64 by about half of this.
        difference = np.abs(ours - theirs)
        assert difference.max() < 3e-2
        assert difference.mean() < 3e-3
