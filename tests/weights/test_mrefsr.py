"""MRefSR's three checkpoints: every weight in its place, each file recognised by its names."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.weights.catalogue import CATALOGUE
from ldip_jax.weights.identify import NETWORKS, identify
from ldip_jax.weights.load import Weights, load_weights, save_weights
from ldip_jax.weights.rules import convert, flatten
from tests.weights.forge import write_pth
from tests.weights.narrow import MEAN, STD, mrefsr_shapes, vgg_arrays

STEMS = ("feature_extraction_image1", "feature_extraction_image2")
# The other convolutions in torchvision's files.
DEEP19 = (12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
DEEP16 = (12, 14, 17, 19, 21, 24, 26, 28)


def extractor_arrays():
    arrays = {}
    for seed, stem in enumerate(STEMS):
        arrays |= {f"{stem}.mean": MEAN, f"{stem}.std": STD}
        arrays |= vgg_arrays(seed, f"{stem}.model.{{layer}}")
    return arrays


def torchvision_arrays(deep):
    arrays = vgg_arrays(2, "features.{number}")
    for name in (*(f"features.{number}" for number in deep), "classifier.0", "classifier.3", "classifier.6"):
        arrays |= {f"{name}.weight": np.ones((2, 2), np.float32), f"{name}.bias": np.ones(2, np.float32)}
    return arrays


def test_parameter_counts_are_the_published_ones():
    networks = [NETWORKS[name] for name in ("mrefsr", "c2-matching", "vgg19")]
    counts = [
        sum(leaf.size for leaf in jax.tree.leaves(network.skeleton(network.config({}))))
        for network in networks
    ]
    assert counts == [23_711_633, 1_110_656, 555_328]
    assert sum(counts) == 25_377_617


def test_every_weight_of_the_restoration_finds_its_place():
    network, blocks = NETWORKS["mrefsr"], 2
    # Each array repeats one number, which takes no memory.
    shapes = mrefsr_shapes(blocks)
    arrays = {name: np.broadcast_to(np.float32(i), shape) for i, (name, shape) in enumerate(shapes.items())}
    assert identify(arrays, "a.pth") is network
    config = network.config(arrays)
    assert config == {"blocks": blocks, "encoder": "vgg19", "matches": "c2-matching"}
    params, ignored = convert(arrays, network.rules, network.skeleton(config), "a.pth")
    assert not ignored
    flat, number = flatten(params), {name: i for i, name in enumerate(shapes)}
    for name, path in (
        ("content_extractor.body.1.conv2.bias", "content_extractor/body/block/conv2/bias"),
        (
            "dyn_agg_restore.medium_dyn_agg.conv_offset_mask.weight",
            "dyn_agg_restore_medium/dyn_agg/conv_offset_mask/kernel",
        ),
        ("dyn_agg_restore.large_dyn_agg.bias", "dyn_agg_restore_large/dyn_agg/bias"),
        ("dyn_agg_restore.head_small.conv_emb2.1.weight", "dyn_agg_restore_small/head/conv_emb2_1"),
        ("dyn_agg_restore.tail_large.2.weight", "dyn_agg_restore_large/tail_2/kernel"),
    ):
        assert flat[path].flat[-1] == number[name]


def test_the_extractor_and_both_classifiers_are_recognised(tmp_path):
    extractor = extractor_arrays()
    for name, arrays in (
        ("c2-matching", extractor),
        ("vgg19", torchvision_arrays(DEEP19)),
        ("vgg16", torchvision_arrays(DEEP16)),
    ):
        weights = load_weights(write_pth(tmp_path / f"{name}.pth", arrays))
        assert weights.network == name
    np.testing.assert_array_equal(
        weights.params["conv2_2"]["kernel"].transpose(3, 2, 0, 1), arrays["features.7.weight"]
    )
    assert any("after conv3_1" in note for note in weights.notes)
    stems = load_weights(tmp_path / "c2-matching.pth").params
    np.testing.assert_array_equal(
        stems[STEMS[1]]["conv3_1"]["bias"], extractor[f"{STEMS[1]}.model.conv3_1.bias"]
    )


def test_another_normalisation_is_refused(tmp_path):
    arrays = extractor_arrays() | {f"{STEMS[0]}.mean": MEAN + np.float32(0.1)}
    with pytest.raises(InputError, match=r"image1\.mean: holds other values"):
        load_weights(write_pth(tmp_path / "a.pth", arrays))


@pytest.mark.parametrize(
    "change", [{"encoder": "resnet"}, {"matches": "luck"}, {"blocks": 0}, {"blocks": 10**6}]
)
def test_a_converted_file_must_describe_a_possible_network(tmp_path, change):
    config = {"blocks": 1, "encoder": "vgg19", "matches": "vgg16"} | change
    save_weights(
        tmp_path / "a.safetensors",
        Weights("x", "mrefsr", config, {"a": np.ones(1, np.float32)}, "0" * 64, "none", []),
    )
    with pytest.raises(InputError, match="config is not one of MRefSR"):
        load_weights(tmp_path / "a.safetensors")


def test_the_restoration_of_c2_matching_is_named(tmp_path):
    name = "dyn_agg_restore.head_small.0.weight"
    with pytest.raises(InputError, match="C2-Matching's restoration"):
        load_weights(write_pth(tmp_path / "a.pth", {name: np.zeros(2, np.float32)}))


def test_vgg19_is_in_the_catalogue():
    entry = CATALOGUE["vgg19"]
    assert NETWORKS[entry.network].title == "VGG-19"
    assert entry.holds("dcbb9e9d" + 56 * "0")
    assert not replace(entry, sha256="397923af").holds("dcbb9e9d")
