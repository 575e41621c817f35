"""LPIPS against another implementation in PyTorch, and its values with the published weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from ldip_jax.errors import InputError
from ldip_jax.evaluation.metrics import lpips
from ldip_jax.models.networks.lpips import MIN_SIDE, VGG16, AlexNet
from ldip_jax.weights.load import load_weights
from ldip_jax.weights.lpips import LPIPS_WEIGHTS
from tests.networks import random_like
from tests.published import published_params

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
# For `pair()`, from the PyTorch version below with the published weights.
VALUES = {"alex": 0.029742, "vgg": 0.111863}


@pytest.fixture(scope="session", params=["alex", "vgg"])
def published(request):
    return request.param, published_params(f"lpips-{request.param}")


def pair(h=64, w=64):
    """A smooth structure, and the same with blur and noise."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    a = 0.5 + 0.45 * np.sin(x[..., None] / [3, 5, 7] + (y * y)[..., None] / [90, 400, 77])
    b = (a + np.roll(a, 1, 0) + np.roll(a, 2, 1)) / 3 + 0.05 * rng.standard_normal(a.shape)
    return a.astype(np.float32), b.astype(np.float32)


def by_torch(params, net, a, b):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional

    def conv(x, index, stride=1, pad=1):
        layer = params["net"][f"layer_{index}"]["conv"]
        kernel = torch.tensor(layer["kernel"].transpose(3, 2, 0, 1)).double()
        return functional.relu(
            functional.conv2d(x, kernel, torch.tensor(layer["bias"]).double(), stride, pad)
        )

    def features(image):
        image = np.round(np.clip(image, 0, 1) * 255) / 255
        x = torch.tensor((2 * image - 1 - np.array(SHIFT)) / np.array(SCALE)).permute(2, 0, 1)[None]
        if net == "alex":
            first = conv(x, 0, 4, 2)
            second = conv(functional.max_pool2d(first, 3, 2), 1, 1, 2)
            third = conv(functional.max_pool2d(second, 3, 2), 2)
            return [first, second, third, fourth := conv(third, 3), conv(fourth, 4)]
        maps, index = [], 0
        for count in (2, 2, 3, 3, 3):
            x = functional.max_pool2d(x, 2) if maps else x
            for _ in range(count):
                x = conv(x, index)
                index += 1
            maps.append(x)
        return maps

    total = 0.0
    for index, (x, y) in enumerate(zip(features(a), features(b), strict=True)):
        x, y = (m / (m.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for m in (x, y))
        weights = torch.tensor(params[f"lin_{index}"].reshape(1, -1, 1, 1)).double()
        total += ((x - y) ** 2 * weights).sum(1).mean().item()
    return total


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_equals_the_pytorch_version_at_an_odd_size(net):
    params = random_like(LPIPS_WEIGHTS.skeleton({"net": net}), np.random.default_rng(2))
    a, b = pair(35, 45)
    assert float(lpips(params, a, b, net)) == pytest.approx(by_torch(params, net, a, b), rel=1e-4)


def test_published_weights_give_the_published_distance(published):
    net, params = published
    a, b = pair()
    assert float(lpips(params, a, b, net)) == pytest.approx(VALUES[net], abs=2e-5)
    assert float(lpips(params, a, a, net)) < 1e-12


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_the_smallest_side_leaves_one_pixel_at_the_deepest_layer(net):
    def deepest(side):
        network = {"alex": AlexNet, "vgg": VGG16}[net]()
        maps = jax.eval_shape(
            lambda: network.init_with_output(jax.random.key(0), jnp.zeros((1, side, side, 3)))[0]
        )
        return maps[-1].shape[1]

    assert deepest(MIN_SIDE[net]) == 1
    with pytest.raises((AssertionError, ValueError, ZeroDivisionError)):
        assert deepest(MIN_SIDE[net] - 1) >= 1


def test_a_file_with_only_linear_layers_is_refused(tmp_path):
    path = tmp_path / "alex.safetensors"
    path.write_bytes(safetensors.numpy.save({"lin0.model.1.weight": np.zeros((1, 64, 1, 1), np.float32)}))
    with pytest.raises(InputError, match="LPIPS without its features"):
        load_weights(path)
