"""IART against a PyTorch twin with random weights, stage by stage, on sizes that windows do not divide.

The weights take the user's path: a `.pth` file, the restricted reader, the rule table. The JAX side runs
frame by frame as `ldip upscale` does, in bands.
"""

import numpy as np
import pytest

from ldip_jax.inference.model import make_network
from ldip_jax.inference.programs import Programs
from ldip_jax.models.networks.iart import ImplicitAlignment, SwinIRFM
from ldip_jax.models.trainable import quick_jit
from ldip_jax.weights.load import load_weights

torch = pytest.importorskip("torch")
from tests.parity import torch_iart as twins  # noqa: E402
from tests.parity.stages import (  # noqa: E402
    assert_every_stage_equals,
    channels_first,
    channels_last,
    clip,
    lively,
    run_frame_by_frame,
)
from tests.weights.narrow import IART  # noqa: E402

SIZE = (13, 21)


@pytest.fixture(scope="module")
def twin():
    torch.manual_seed(0)
    net = lively(twins.IART(*IART.values()))
    for part in (net.swin_backbone, net.implicit_warp):
        for parameter in part.parameters():
            # Otherwise attention is nearly uniform, and the norms do nothing.
            parameter += 0.1 * torch.randn(parameter.shape)
    return net


@pytest.fixture(scope="module")
def weights(twin, tmp_path_factory):
    """The twin's weights, as a user would supply them."""
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save({"params": twin.state_dict()}, path)
    return load_weights(path)


@pytest.fixture(scope="module")
def programs(weights):
    return Programs(make_network(None, weights, band_pixels=800), {"backbone": weights.params})


def test_the_configuration_is_read_from_the_file(weights):
    assert (weights.network, weights.config) == ("iart", IART)


align = quick_jit(ImplicitAlignment(24, IART["heads"], band_pixels=80).apply)


@pytest.mark.parametrize("reach", [0.7, 40.0], ids=["near", "far outside"])
def test_alignment_equals_torch(twin, weights, rng, reach):
    other, current = (rng.standard_normal((2, 24, *SIZE)).astype(np.float32) for _ in range(2))
    flow = (reach * rng.standard_normal((2, 2, *SIZE))).astype(np.float32)
    flow[0, :, ::2] = np.round(flow[0, :, ::2])
    expected = twin.implicit_warp(*map(torch.tensor, (other, current, flow)))
    arrays = [x.transpose(0, 2, 3, 1) for x in (other, current, flow)]
    got = align({"params": weights.params["implicit_warp"]}, *arrays)
    # The codes' float32 sines are accurate to 4e-5.
    np.testing.assert_allclose(got, channels_last(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [SIZE, (8, 12)], ids=str)
def test_fusion_of_three_frames_equals_torch(twin, weights, rng, size):
    triple = rng.standard_normal((3, 24, *size)).astype(np.float32)
    expected = twin.swin_backbone["forward_1"](torch.tensor(triple))
    fields = (IART[name] for name in ("embed_dim", "groups", "blocks", "heads", "window", "mlp_ratio"))
    net = SwinIRFM(*fields, band_pixels=100)
    params = weights.params["swin_backbone_forward_1"]
    got = quick_jit(net.apply)({"params": params}, triple.transpose(0, 2, 3, 1)[None])
    np.testing.assert_allclose(got, channels_last(expected[None]), rtol=0, atol=2e-5)


@pytest.mark.parametrize("frames", [5, 1])
def test_every_stage_equals_torch(twin, programs, frames):
    frames = clip(1, frames, *SIZE)
    stages = run_frame_by_frame(programs, frames, "fused")
    assert_every_stage_equals(stages, twin.stages(channels_first(frames)), atol=1e-4)
