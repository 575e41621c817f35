"""SPyNet and BasicVSR against PyTorch twins with random weights, stage by stage, on awkward sizes.

The weights take the user's path: a `.pth` file in either naming, the restricted reader, the rule tables. The
JAX side runs frame by frame as `ldip upscale` does, in bands.
"""

import jax
import numpy as np
import pytest

from ldip_jax.inference.engine import backbone_frames
from ldip_jax.inference.programs import Programs
from ldip_jax.inference.streaming import WindowFeatures
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.networks.basicvsr import BasicVSR
from ldip_jax.models.networks.spynet import SPyNet
from ldip_jax.models.trainable import quick_jit
from ldip_jax.weights.load import load_weights

torch = pytest.importorskip("torch")
from tests.parity import torch_twins as twins  # noqa: E402
from tests.parity.stages import (  # noqa: E402
    CLIPS,
    assert_every_stage_equals,
    channels_first,
    channels_last,
    clip,
    lively,
    mmagic,
    run_frame_by_frame,
)

FEATURES, BLOCKS = 16, 2


@pytest.fixture(scope="module")
def twin():
    torch.manual_seed(0)
    return lively(twins.BasicVSR(FEATURES, BLOCKS))


@pytest.fixture(scope="module")
def weights(twin, tmp_path_factory):
    """The twin's weights, as a user would supply them."""
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save({"params": twin.state_dict()}, path)
    return load_weights(path)


@pytest.fixture(scope="module")
def programs(weights):
    return Programs(LDIP(BasicVSR(**weights.config, band_pixels=1500)), {"backbone": weights.params})


def test_both_namings_give_the_same_weights(twin, weights, tmp_path):
    named = {f"generator.{mmagic(name)}": array for name, array in twin.state_dict().items()}
    torch.save({"meta": {}, "state_dict": named}, tmp_path / "mmagic.pth")
    again = load_weights(tmp_path / "mmagic.pth")
    assert weights.config == again.config == {"mid_channels": FEATURES, "num_blocks": BLOCKS}
    jax.tree.map(np.testing.assert_array_equal, weights.params, again.params)


@pytest.mark.parametrize("size", CLIPS, ids=str)
def test_every_stage_equals_torch(twin, programs, size):
    frames = clip(1, *size)
    stages = run_frame_by_frame(programs, frames, "fused")
    assert_every_stage_equals(stages, twin.stages(channels_first(frames)))


def test_a_scanned_clip_equals_frame_by_frame(weights, programs):
    # Of the size of another clip, whose programs run again.
    frames = clip(2, *CLIPS[2])
    window = WindowFeatures(programs, list(frames), lambda _: None)
    one_by_one = np.concatenate(list(backbone_frames(window, range(5), lambda _: None)))
    whole = quick_jit(BasicVSR(**weights.config).apply)({"params": weights.params}, frames[None])[0]
    np.testing.assert_allclose(whole, one_by_one, rtol=0, atol=1e-5)


spynet = quick_jit(SPyNet().apply)


@pytest.mark.parametrize("naming", [str, mmagic])
def test_flow_of_a_separate_checkpoint(naming, tmp_path):
    torch.manual_seed(1)
    net = lively(twins.SPyNet())
    torch.save({naming(name): array for name, array in net.state_dict().items()}, tmp_path / "spynet.pth")
    params = load_weights(tmp_path / "spynet.pth", network="spynet").params
    a, b = clip(3, 2, 37, 53)
    flow = spynet({"params": params}, a[None], b[None])
    expected = net(*(torch.tensor(x).permute(2, 0, 1)[None] for x in (a, b)))
    assert expected.abs().max() > 2.0
    np.testing.assert_allclose(flow, channels_last(expected), rtol=0, atol=5e-5)
