"""RAFT, large and small, against a PyTorch twin with random weights, from files in either naming."""

import jax
import numpy as np
import pytest

from ldip_jax.models.networks.raft import RAFT
from ldip_jax.models.trainable import quick_jit
from ldip_jax.weights.load import load_weights

torch = pytest.importorskip("torch")
from tests.parity import torch_raft as twins  # noqa: E402
from tests.parity.stages import channels_last, clip  # noqa: E402


@pytest.fixture(scope="module", params=[False, True], ids=["large", "small"])
def twin(request):
    torch.manual_seed(0)
    net = twins.RAFT(request.param).eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            # Signals keep their magnitude, so that flows are of several pixels.
            module.weight.normal_(std=1.2 * module.weight[0].numel() ** -0.5)
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(std=0.3)
    return net


@pytest.fixture(scope="module")
def weights(twin, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "raft.pth"
    torch.save(twin.state_dict(), path)
    return load_weights(path, network="raft")


def test_both_namings_give_the_same_weights(twin, weights, tmp_path):
    small = twin.mask_predictor is None
    torch.save(twins.original(twin.state_dict(), small), tmp_path / "raft-things.pth")
    again = load_weights(tmp_path / "raft-things.pth")
    assert weights.config == again.config == {"small": small}
    jax.tree.map(np.testing.assert_array_equal, weights.params, again.params)
    count = sum(parameter.numel() for parameter in twin.parameters())
    assert count == (990_162 if small else 5_257_536)
    statistics = sum(buffer.numel() for buffer in twin.buffers() if buffer.ndim)
    assert sum(leaf.size for leaf in jax.tree.leaves(weights.params)) == count + statistics


def test_flow_equals_torch(twin, weights):
    """On sides that are not multiples of 8, one below 128, extended by replication; two pairs at once."""
    updates, (h, w) = 4, (93, 133)
    a, b, c = clip(3, 3, h, w)
    refs, supps = np.stack([a, c]), np.stack([b, a])
    padded = (
        torch.nn.functional.pad(torch.tensor(x).permute(0, 3, 1, 2), (0, 136 - w, 0, 128 - h), "replicate")
        for x in (refs, supps)
    )
    expected = channels_last(twin.stages(*padded, updates)["flow"])[:, :h, :w]
    net = RAFT(**weights.config, updates=updates)
    flow = quick_jit(net.apply)({"params": weights.params}, refs, supps)
    assert flow.dtype == np.float32
    assert np.abs(expected).max() > 2.0
    np.testing.assert_allclose(flow, expected, rtol=0, atol=1e-3)
