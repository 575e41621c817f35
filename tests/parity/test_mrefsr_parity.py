"""MRefSR's three networks against PyTorch twins with random weights, stage by stage, on awkward sizes.

The weights take the user's path: `.pth` files, the restricted reader, the rule tables. The JAX side runs in
bands.
"""

from functools import partial

import numpy as np
import pytest

from ldip_jax.models.networks.mrefsr import SIZES, Extractor, MRefSR
from ldip_jax.models.networks.vgg import VGG, VGGMaps
from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.patch_match import match_patches, tap_offsets
from ldip_jax.weights.load import load_weights

torch = pytest.importorskip("torch")
from tests.parity import torch_mrefsr as twins  # noqa: E402
from tests.parity.stages import channels_last, clip  # noqa: E402

BLOCKS, REFERENCES = 2, 2
# LR sides; not multiples of 4, so that attention pads.
SIZE = (26, 9)


def randomised(net, seed):
    """Weights that keep the magnitude of signals, and offsets of a pixel or so."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, (1.5 / parameter[0].numel()) ** 0.5)
            elif parameter.numel() == 1:
                parameter.fill_(0.3)
            else:
                parameter.normal_(0, 0.1)
            if "conv_offset_mask" in name:
                parameter *= 0.5
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def nets():
    """The twins: restoration, extractor, features of references."""
    twin_nets = twins.MRefSR(blocks=BLOCKS), twins.Extractor(), twins.Map()
    return [randomised(net, seed) for seed, net in enumerate(twin_nets)]


@pytest.fixture(scope="module")
def weights(nets, tmp_path_factory):
    """The twins' weights as a user would supply them, wrapped like the official files."""
    folder, (net, extractor, features) = tmp_path_factory.mktemp("weights"), nets
    vgg = features.vgg.vgg_net
    numbers = {"conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7, "conv3_1": 10}
    torchvision = {
        f"features.{numbers[name]}.{kind}": getattr(layer, kind)
        for name, layer in vgg.items()
        for kind in ("weight", "bias")
    }
    torchvision |= {"features.34.weight": torch.zeros(4, 4, 3, 3), "classifier.6.weight": torch.zeros(2, 2)}
    files = {
        "net_g": {"params": net.state_dict()},
        "extractor": {f"module.{name}": array for name, array in extractor.state_dict().items()},
        "vgg19": torchvision,
    }
    for name, content in files.items():
        torch.save(content, folder / f"{name}.pth")
    return {name: load_weights(folder / f"{name}.pth") for name in files}


@pytest.fixture(scope="module")
def images():
    """An LR image, its upscaled form, and references."""
    h, w = SIZE
    references = clip(3, REFERENCES, 4 * h, 4 * w)
    low = torch.nn.functional.avg_pool2d(to_torch(references[:1]), 4)
    up = torch.nn.functional.interpolate(low, scale_factor=4, mode="bicubic").clamp(0, 1)
    return channels_last(low), channels_last(up), references[::-1].copy()


def to_torch(x):
    return torch.tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def assert_near(ours, theirs, name=""):
    np.testing.assert_allclose(ours, channels_last(theirs), rtol=0, atol=1e-4, err_msg=name)


def test_the_networks_are_recognised_from_their_files(weights):
    assert [weights[name].network for name in ("net_g", "extractor", "vgg19")] == [
        *("mrefsr", "c2-matching", "vgg19")
    ]
    assert weights["net_g"].config == {"blocks": BLOCKS, "encoder": "vgg19", "matches": "c2-matching"}
    assert any("after conv3_1" in note for note in weights["vgg19"].notes)


def test_features_equal_torch(nets, weights, images):
    expected = nets[2](to_torch(images[2]))
    net = VGG(band_pixels=25 * SIZE[1])
    maps = quick_jit(lambda p, x: net.apply(p, x, method="maps"))(
        {"params": weights["vgg19"].params}, images[2]
    )
    for name, ours in maps._asdict().items():
        assert_near(ours, expected[name], name)


def test_matches_equal_torch(nets, weights, images):
    """The same patch, unless two are equally good up to rounding in float32."""
    _, up, references = images
    extractor, params = Extractor(band_pixels=25 * SIZE[1]), {"params": weights["extractor"].params}

    def both(params, up, reference):
        stem = VGG().apply({"params": params["params"]["feature_extraction_image1"]}, up)
        return extractor.apply(params, up, reference), stem

    ours, stem = map(np.asarray, quick_jit(both)(params, up, references[:1]))
    first, other = nets[1](to_torch(up), to_torch(references[:1]))
    assert_near(stem, first, "conv3_1")
    place, scores = twins.match(first[0], other[0])
    expected = twins.pre_offsets(place, 1)
    rows, columns = place.shape
    own = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1)
    got = (ours[0, :rows, :columns] + own).astype(int)
    found = scores[np.arange(rows * columns), torch.tensor(got[..., 1] * columns + got[..., 0]).flatten()]
    np.testing.assert_allclose(found, scores.max(1).values, rtol=0, atol=1e-5)
    best = scores.topk(2).values
    unambiguous = (best[:, 0] - best[:, 1] > 1e-4).reshape(rows, columns).numpy()
    assert unambiguous.mean() > 0.9
    np.testing.assert_array_equal(
        ours[0, :rows, :columns][unambiguous], expected[0, :rows, :columns].numpy()[unambiguous]
    )


def test_offsets_of_taps_equal_torch(rng):
    features, other = rng.standard_normal((2, 1, 7, 9, 5)).astype(np.float32)

    def taps(features, other):
        return tap_offsets(match_patches(features, other)[0])

    offsets = np.asarray(quick_jit(taps)(features, other))
    place, _ = twins.match(to_torch(features)[0], to_torch(other)[0])
    for _, (step, _) in SIZES.items():
        ours = step * np.repeat(np.repeat(offsets, step, 1), step, 2)
        np.testing.assert_array_equal(np.moveaxis(ours[0], 2, 0), twins.pre_offsets(place, step).numpy())


def stages(net, params, *inputs):
    """The stages as they are computed, named as by the twin."""

    def is_stage(module, method):
        return (module.name, method) in {("content_extractor", "__call__"), ("head", "__call__")} or (
            method in ("aggregate", "finish")
        )

    output, variables = net.apply({"params": params}, *inputs, capture_intermediates=is_stage)
    captured = variables["intermediates"]
    seen = {"content": captured["content_extractor"]["__call__"][0], "output": output}
    for name in SIZES:
        level = captured[f"dyn_agg_restore_{name}"]
        seen |= {
            f"{name} aligned": level["aggregate"][0][0],
            f"{name} fused": level["head"]["__call__"][0],
            name: level["finish"][0],
        }
    return seen


def test_every_stage_equals_torch(nets, weights, images, rng):
    low, _, references = images
    features = [nets[2](to_torch(reference[None])) for reference in references]
    # Any match will do: far ones, too.
    places = [torch.tensor(rng.integers(0, 24 * 7, (SIZE[0] - 2, SIZE[1] - 2))) for _ in references]
    expected = nets[0].stages(to_torch(low), features, places)
    offsets = np.stack([twins.pre_offsets(place, 1)[0].numpy() for place in places])[None]
    maps = VGGMaps(
        *(np.stack([channels_last(f[name])[0] for f in features])[None] for name in VGGMaps._fields)
    )
    net = MRefSR(blocks=BLOCKS, band_pixels=25 * SIZE[1])
    got = quick_jit(partial(stages, net))(weights["net_g"].params, low, maps, offsets)
    assert got.keys() == expected.keys()
    for name, stage in expected.items():
        assert stage.abs().max() > 0.05, name
        assert_near(got[name], stage, name)
