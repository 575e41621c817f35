"""BasicVSR++ against a PyTorch twin with random weights, stage by stage; x4 and same-size.

The weights take the user's path: a `.pth` file in either naming, the restricted reader, the rule tables. The
JAX side runs frame by frame as `ldip upscale` does, in bands.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.inference.engine import backbone_frames
from ldip_jax.inference.model import make_network
from ldip_jax.inference.programs import Programs
from ldip_jax.inference.streaming import WindowFeatures
from ldip_jax.models.networks.basicvsr_pp import BasicVSRPlusPlus
from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.deform_conv import deform_conv
from ldip_jax.weights.load import load_weights

torch = pytest.importorskip("torch")
from tests.parity import torch_basicvsr_pp as twins  # noqa: E402
from tests.parity.stages import (  # noqa: E402
    assert_every_stage_equals,
    channels_first,
    clip,
    lively,
    mmagic,
    run_frame_by_frame,
)

FEATURES, BLOCKS = 8, 2


def pair(folder, **options):
    """A twin, and its weights as a user would supply them."""
    torch.manual_seed(0)
    twin = lively(twins.BasicVSRPlusPlus(FEATURES, BLOCKS, **options))
    torch.save({"params": twin.state_dict()}, folder / "random.pth")
    return twin, load_weights(folder / "random.pth")


def programs(weights, band_pixels):
    return Programs(make_network(None, weights, band_pixels), {"backbone": weights.params})


@pytest.fixture(scope="module")
def x4(tmp_path_factory):
    twin, weights = pair(tmp_path_factory.mktemp("x4"))
    return twin, weights, programs(weights, band_pixels=1500)


def test_deformable_convolution_equals_torch(rng):
    b, c, h, w, g, taps = 2, 8, 7, 11, 4, 9
    x, mask = rng.standard_normal((b, c, h, w)), rng.random((b, g * taps, h, w))
    offsets = 2 * rng.standard_normal((b, g * taps * 2, h, w))
    kernel = rng.standard_normal((6, c // 2, 3, 3))
    arrays = [torch.tensor(array, requires_grad=True) for array in (x, offsets, mask, kernel)]
    theirs = twins.deform_conv(*arrays, padding=1, groups=2)
    weights = rng.standard_normal(theirs.shape)
    (theirs * torch.tensor(weights)).sum().backward()

    def ours(x, offsets, mask, kernel):
        """From and to PyTorch's layout."""
        last = [jnp.moveaxis(array, 1, -1) for array in (x, offsets, mask)]
        flipped = last[1].reshape(b, h, w, -1, 2)[..., ::-1].reshape(last[1].shape)
        out = deform_conv(last[0], flipped, last[2], kernel.transpose(2, 3, 1, 0), padding=1, groups=2)
        return jnp.sum(jnp.moveaxis(out, -1, 1) * weights.astype(np.float32)), out

    inputs = [jnp.asarray(array, jnp.float32) for array in (x, offsets, mask, kernel)]
    gradients, out = quick_jit(jax.grad(ours, argnums=range(4), has_aux=True))(*inputs)
    np.testing.assert_allclose(out.transpose(0, 3, 1, 2), theirs.detach(), atol=1e-5)
    for gradient, array in zip(gradients, arrays, strict=True):
        np.testing.assert_allclose(gradient, array.grad, atol=2e-4)


@pytest.mark.parametrize("size", [(1, 37, 53), (5, 37, 53)], ids=str)
def test_every_stage_equals_torch(x4, size):
    twin, _, programs = x4
    frames = clip(1, *size)
    stages = run_frame_by_frame(programs, frames, "recon")
    expected = twin.stages(channels_first(frames))
    if len(frames) > 2:
        assert max(flow.abs().max() for flow in expected["to_next"]) > 2.0
    assert_every_stage_equals(stages, expected, atol=3e-5)


def test_the_same_size_variant_equals_torch(tmp_path):
    twin, weights = pair(tmp_path, same_size=True)
    assert weights.config == {"mid_channels": FEATURES, "num_blocks": BLOCKS, "same_size": True}
    frames = clip(2, 4, 52, 80)
    stages = run_frame_by_frame(programs(weights, None), frames, "recon")
    assert stages["output"][0].shape == (1, 52, 80, 3)
    assert stages["to_next"][0].shape == (1, 13, 20, 2)
    assert_every_stage_equals(stages, twin.stages(channels_first(frames)), atol=3e-5)


def test_a_scanned_clip_equals_frame_by_frame(x4):
    _, weights, programs = x4
    frames = clip(2, 4, 37, 53)
    window = WindowFeatures(programs, list(frames), lambda _: None)
    one_by_one = np.concatenate(list(backbone_frames(window, range(4), lambda _: None)))
    whole = quick_jit(BasicVSRPlusPlus(**weights.config).apply)({"params": weights.params}, frames[None])[0]
    np.testing.assert_allclose(whole, one_by_one, rtol=0, atol=1e-5)


def test_both_namings_give_the_same_weights(x4, tmp_path):
    twin, weights, _ = x4
    named = {f"generator.{mmagic(name)}": array for name, array in twin.state_dict().items()}
    torch.save({"meta": {}, "state_dict": named}, tmp_path / "mmagic.pth")
    again = load_weights(tmp_path / "mmagic.pth")
    assert (
        weights.config == again.config == {"mid_channels": FEATURES, "num_blocks": BLOCKS, "same_size": False}
    )
    jax.tree.map(np.testing.assert_array_equal, weights.params, again.params)
