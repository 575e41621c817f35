"""SPyNet and BasicVSR against PyTorch twins with random weights, stage by stage, on awkward sizes.

The weights take the user's way: a `.pth` file in either naming, the restricted reader, the rule tables. The
JAX side runs frame by frame as `ldip upscale` does, in bands.
"""

import re

import jax
import numpy as np
import pytest

from ldip_jax.inference.engine import WindowFeatures, backbone_frames
from ldip_jax.inference.programs import Programs
from ldip_jax.models.backbone.basicvsr import BasicVSR
from ldip_jax.models.backbone.spynet import SPyNet
from ldip_jax.models.ldip import LDIP
from ldip_jax.weights.load import load_weights

torch = pytest.importorskip("torch")
from tests.parity import torch_twins as twins  # noqa: E402

FEATURES, BLOCKS = 16, 2

# Frames, height, width: odd sides, sides under 32 and under 64; only the last are multiples of 32.
CLIPS = [(1, 20, 28), (2, 8, 8), (5, 37, 53), (2, 64, 32)]
# Largest difference by stage, pixels for flows; 1e-5 and 1e-6 were found.
TOLERANCES = {"to_next": 5e-5, "to_previous": 5e-5}

MMAGIC = (
    (r"(backward|forward)_trunk", r"\1_resblocks"),
    (r"upconv([12])", r"upsample\1.upsample_conv"),
    (r"(basic_module\.\d)\.basic_module\.(\d)", lambda m: f"{m[1]}.basic_module.{int(m[2]) // 2}.conv"),
)


def mmagic(name):
    """The same parameter's name in mmagic's files."""
    for pattern, replacement in MMAGIC:
        name = re.sub(pattern, replacement, name)
    return name


def lively(net):
    """Makes flows of several pixels, where random weights give next to none."""
    spynet = getattr(net, "spynet", net)
    with torch.no_grad():
        for level in spynet.basic_module:
            for layer in level.basic_module[::2]:
                layer.weight *= 2.0
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def twin():
    torch.manual_seed(0)
    return lively(twins.BasicVSR(FEATURES, BLOCKS))


@pytest.fixture(scope="module")
def weights(twin, tmp_path_factory):
    """The twin's, as a user would bring them."""
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save({"params": twin.state_dict()}, path)
    return load_weights(path)


@pytest.fixture(scope="module")
def programs(weights):
    return Programs(LDIP(BasicVSR(**weights.config, band_pixels=1500)), {"backbone": weights.params})


def clip(seed, t, h, w):
    """Smooth noise that moves a little, float32 in [0, 1], t h w 3."""
    rng = np.random.default_rng(seed)
    large = torch.tensor(rng.random((1, 3, h // 4 + 3, w // 4 + 3)))
    still = torch.nn.functional.interpolate(large, scale_factor=4, mode="bicubic").clamp(0, 1)[0]
    frames = [still[:, i : i + h, 2 * i : 2 * i + w] for i in range(t)]
    return torch.stack(frames).permute(0, 2, 3, 1).float().numpy()


def channels_last(x):
    return x.numpy().transpose(0, 2, 3, 1)


def run_frame_by_frame(programs, frames):
    """The stages as `torch_twins.BasicVSR.stages` names them, from the programs of `ldip upscale`."""
    stages = {branch.name: {} for branch in programs.net.backbone.branches}
    order = {"backward": reversed(range(len(frames))), "forward": iter(range(len(frames)))}
    step = programs.step

    def recorded(branch, *args):
        carry, out = step(branch, *args)
        stages[branch.name][next(order[branch.name])] = out
        return carry, out

    programs.step = recorded
    try:
        window = WindowFeatures(programs, list(frames), lambda _: None)
    finally:
        programs.step = step
    places = range(len(frames))
    named = {name: [outputs[i] for i in places] for name, outputs in stages.items()}
    named["to_next"] = [window.flow(i, i + 1) for i in places[:-1]]
    named["to_previous"] = [window.flow(i, i - 1) for i in places[1:]]
    named["fused"] = window.features
    named["hr_pre"] = [programs.upscale(features, None) for features in window.features]
    named["output"] = list(backbone_frames(programs, window, places, None, lambda _: None))
    return named


def test_both_namings_give_the_same_weights(twin, weights, tmp_path):
    named = {f"generator.{mmagic(name)}": array for name, array in twin.state_dict().items()}
    torch.save({"meta": {}, "state_dict": named}, tmp_path / "mmagic.pth")
    again = load_weights(tmp_path / "mmagic.pth")
    assert weights.config == again.config == {"mid_channels": FEATURES, "num_blocks": BLOCKS}
    jax.tree.map(np.testing.assert_array_equal, weights.params, again.params)


@pytest.mark.parametrize("size", CLIPS, ids=str)
def test_every_stage_equals_torch(twin, programs, size):
    frames = clip(1, *size)
    stages = run_frame_by_frame(programs, frames)
    expected = twin.stages(torch.tensor(frames).permute(0, 3, 1, 2)[None])
    assert stages.keys() == expected.keys()
    for name, over_time in expected.items():
        assert len(stages[name]) == len(over_time)
        for ours, theirs in zip(stages[name], over_time, strict=True):
            tolerance = TOLERANCES.get(name, 1e-5)
            np.testing.assert_allclose(ours, channels_last(theirs), rtol=0, atol=tolerance, err_msg=name)


def test_a_scanned_clip_equals_frame_by_frame(weights, programs):
    frames = clip(2, 5, 20, 28)
    window = WindowFeatures(programs, list(frames), lambda _: None)
    one_by_one = np.concatenate(list(backbone_frames(programs, window, range(5), None, lambda _: None)))
    whole = jax.jit(BasicVSR(**weights.config).apply)({"params": weights.params}, frames[None])[0]
    np.testing.assert_allclose(whole, one_by_one, rtol=0, atol=1e-5)


@pytest.mark.parametrize("naming", [str, mmagic])
def test_flow_of_a_checkpoint_of_its_own(naming, tmp_path):
    torch.manual_seed(1)
    net = lively(twins.SPyNet())
    torch.save({naming(name): array for name, array in net.state_dict().items()}, tmp_path / "spynet.pth")
    params = load_weights(tmp_path / "spynet.pth", network="spynet").params
    a, b = clip(3, 2, 37, 53)
    flow = jax.jit(SPyNet().apply)({"params": params}, a[None], b[None])
    expected = net(*(torch.tensor(x).permute(2, 0, 1)[None] for x in (a, b)))
    assert expected.abs().max() > 2.0
    np.testing.assert_allclose(flow, channels_last(expected), rtol=0, atol=5e-5)
