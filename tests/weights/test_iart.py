"""IART's checkpoints: every weight in its place, unused ones reported, other constants refused."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.weights.identify import NETWORKS
from ldip_jax.weights.load import load_weights, save_weights
from tests.weights.forge import write_pth
from tests.weights.narrow import IART, iart_arrays


@pytest.fixture(scope="module")
def arrays():
    return iart_arrays()


def test_every_weight_finds_its_place(arrays, tmp_path):
    weights = load_weights(write_pth(tmp_path / "a.pth", arrays, wrap="params"))
    assert (weights.network, weights.config) == ("iart", IART)
    for name, path in (
        ("layers.1.residual_group.blocks.0.mlp.fc2.weight", "layers/blocks_0/fc2/kernel/1"),
        ("layers.0.residual_group.blocks.1.attn.qkv.bias", "layers/blocks_1/attn/qkv/bias/0"),
        ("layers.1.conv.bias", "layers/conv/bias/1"),
        ("patch_embed.norm.weight", "patch_embed_norm/scale"),
    ):
        found = weights.params["swin_backbone_forward_2"]
        for key in path.split("/"):
            found = found[int(key) if key.isdecimal() else key]
        np.testing.assert_array_equal(found.T, arrays["swin_backbone.forward_2." + name])
    never = [name for name in arrays if name.startswith("swin_backbone") and name.count(".") == 3]
    never = [name for name in never if "conv_first" in name or "conv_before" in name]
    (note,) = (note for note in weights.notes if "never runs" in note)
    size = sum(arrays[name].size for name in never)
    assert f"left out {len(never)} arrays ({size:,} values)" in note
    for part in ("conv_first.weight", "conv_first_feat.bias", "conv_before_upsample.weight"):
        assert part in note
    assert any("position_index" in note for note in weights.notes)


@pytest.mark.parametrize("change", [{"window": 10**6}, {"blocks": 10**6}, {"heads": 5}, {"embed_dim": 0}])
def test_a_converted_file_must_describe_a_possible_network(arrays, tmp_path, change):
    weights = load_weights(write_pth(tmp_path / "a.pth", arrays))
    save_weights(tmp_path / "a.safetensors", replace(weights, config=IART | change))
    with pytest.raises(InputError, match="config is not one of IART"):
        load_weights(tmp_path / "a.safetensors")


def test_parameter_count_is_the_published_one():
    network = NETWORKS["iart"]
    count = sum(leaf.size for leaf in jax.tree.leaves(network.skeleton(network.config({}))))
    assert count + 567_136 == 13_410_503


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("implicit_warp.position_bias", lambda array: array + 0.01),
        ("implicit_warp.position_bias", lambda array: array[0]),
        ("implicit_warp.window_idx_offset", lambda array: array[::-1]),
        (
            "swin_backbone.forward_1.layers.1.residual_group.blocks.0.attn.relative_position_index",
            np.transpose,
        ),
    ],
)
def test_other_constants_are_refused(arrays, tmp_path, name, change):
    path = write_pth(tmp_path / "a.pth", arrays | {name: np.ascontiguousarray(change(arrays[name]))})
    with pytest.raises(InputError, match=f"{name}: holds other values"):
        load_weights(path)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv_first.bias", (26,)),
        ("conv_first.bias", ()),
        ("conv_first.bias", (10**6,)),
        ("conv_before_upsample.bias", (0,)),
        (
            "swin_backbone.backward_1.layers.0.residual_group.blocks.0.attn.relative_position_bias_table",
            (5, 0),
        ),
        (
            "swin_backbone.backward_1.layers.0.residual_group.blocks.0.attn.relative_position_bias_table",
            (9**6, 2),
        ),
        ("swin_backbone.backward_1.layers.0.residual_group.blocks.0.mlp.fc1.bias", (7,)),
        ("swin_backbone.backward_1.layers.99.conv.bias", (24,)),
    ],
)
def test_impossible_shapes_are_reported_without_building_a_network(arrays, tmp_path, name, shape):
    path = write_pth(tmp_path / "a.pth", arrays | {name: np.zeros(shape, np.float32)})
    with pytest.raises(InputError, match="as IART") as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)
