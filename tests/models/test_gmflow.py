"""GMFlow: against the official network's output, and what must hold for any weights.

`golden/gmflow.npz` holds a synthetic pair and its flows by the official PyTorch network in float64.
"""

from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.models.networks.gmflow import (
    GMFlow,
    Propagation,
    TridentConv,
    convex_upsample,
    global_matching,
    instance_norm,
    local_matching,
    neighbourhood,
)
from ldip_jax.models.networks.gmflow_transformer import (
    Transformer,
    add_position,
    merge_windows,
    shifted_regions,
    sine_position,
    split_windows,
)
from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.conv import conv2d
from ldip_jax.weights.network import parameter_shapes
from tests.networks import random_like
from tests.published import published_params
from tests.scenes import blocks

GOLDEN = Path(__file__).parents[1] / "golden" / "gmflow.npz"


@pytest.fixture(scope="session")
def published():
    return published_params("gmflow")


@pytest.fixture(scope="session")
def golden():
    with np.load(GOLDEN) as file:
        images = file["images"].astype(np.float32) / np.float32(255)
        return images[:1], images[1:], np.stack([file["forward"], file["backward"]])


@pytest.fixture(scope="module")
def random_params():
    return random_like(parameter_shapes(GMFlow(), *[(1, 32, 32, 3)] * 2), np.random.default_rng(1))


def flows_of(params, a, b):
    return GMFlow().apply({"params": params}, a, b)


# A small frame's program compiles for longer than it runs; a large frame's, or one in float64, does not.
run, run_long = quick_jit(flows_of), jax.jit(flows_of)


@cache
def attending(windows, group=None):
    """The transformer, traced and compiled once for each size of features and windows."""
    transformer = Transformer() if group is None else Transformer(group=group)
    return quick_jit(lambda params, x: transformer.apply(params, x, windows))


def transformer_params(x, windows):
    shapes = jax.eval_shape(lambda key: Transformer().init(key, x, windows), jax.random.key(0))
    return {"params": random_like(shapes["params"], np.random.default_rng(2))}


def noise(key, *shape):
    return jax.random.normal(key, shape)


def distinct(key, *shape):
    """Features of equal length, so long that each pixel's best match by far is itself."""
    x = noise(key, *shape)
    return 20.0 * x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def test_parameter_count_is_the_published_one(random_params):
    assert sum(leaf.size for leaf in jax.tree.leaves(random_params)) == 4_716_720


def test_flows_equal_the_official_network(published, golden):
    a, b, expected = golden
    error = np.abs(np.concatenate(run(published, a, b)) - expected)
    # The official network in float32 is itself up to 5e-4 pixels away from its float64 result here.
    assert np.quantile(error, 0.99) < 1e-3
    assert error.max() < 3e-3


def test_flows_equal_the_official_network_in_float64(published, golden):
    a, b, expected = golden
    with jax.enable_x64(True):
        params = jax.tree.map(np.float64, published)
        flows = run_long(params, a.astype(np.float64), b.astype(np.float64))
        np.testing.assert_allclose(np.concatenate(flows), expected, atol=2e-4)


def test_swapped_images_swap_the_flows(published, golden):
    a, b, _ = golden
    forward, backward = run(published, a, b)
    swapped_forward, swapped_backward = run(published, b, a)
    np.testing.assert_allclose(swapped_forward, backward, atol=3e-3)
    np.testing.assert_allclose(swapped_backward, forward, atol=3e-3)


def test_an_image_matches_itself_in_place(published):
    scene = blocks(seed=0, height=192, width=256)[None]
    for flow in run_long(published, scene, scene):
        assert np.quantile(np.abs(flow), 0.9) < 0.1


def test_a_batch_equals_its_images_one_by_one(published, golden):
    a, b, _ = golden
    together = run(published, np.concatenate([a, b]), np.concatenate([b, b]))
    for i, (x, y) in enumerate(((a, b), (b, b))):
        for batched, single in zip(together, run(published, x, y), strict=True):
            np.testing.assert_allclose(batched[i : i + 1], single, atol=3e-3)


def test_sides_that_are_not_multiples_of_32_are_refused(random_params):
    with pytest.raises(ValueError, match="multiples of 32"):
        run(random_params, jnp.zeros((1, 32, 40, 3)), jnp.zeros((1, 32, 40, 3)))


def test_smallest_size_has_windows_of_one_pixel_and_finite_flow(random_params, key):
    a, b = jax.random.uniform(key, (2, 1, 32, 32, 3))
    for flow in run(random_params, a, b):
        assert flow.shape == (1, 32, 32, 2)
        assert np.isfinite(flow).all()


def test_instance_norm_matches_torch(key):
    torch = pytest.importorskip("torch")
    x = 3.0 + 2.0 * noise(key, 2, 9, 7, 4)
    expected = torch.nn.functional.instance_norm(torch.tensor(np.array(x)).permute(0, 3, 1, 2), eps=1e-5)
    np.testing.assert_allclose(instance_norm(x), expected.permute(0, 2, 3, 1), atol=1e-5)


def test_trident_is_one_kernel_at_two_strides(key):
    x = noise(key, 1, 8, 12, 4)
    fine, coarse = (trident := TridentConv()).apply(params := trident.init(key, x), x)
    np.testing.assert_array_equal(fine, conv2d(x, params["params"]["kernel"]))
    np.testing.assert_allclose(coarse, fine[:, ::2, ::2], atol=1e-5)


def test_windows_are_merged_back(key):
    x = noise(key, 2, 6, 12, 3)
    windows = split_windows(x, (3, 4))
    np.testing.assert_array_equal(windows[1], x[0, :3, 4:8].reshape(12, 3))
    np.testing.assert_array_equal(merge_windows(windows, (3, 4), (6, 12)), x)


def test_regions_separate_pixels_that_only_rolling_made_neighbours():
    regions = shifted_regions((4, 4), (2, 2), (1, 1))
    # After rolling by (-1, -1) the windows hold these original pixels (row, column):
    # 0: (1..2, 1..2) all neighbours; 3: (3, 0) x (3, 0), the four corners of the map.
    assert len(set(regions[0])) == 1
    assert len(set(regions[1])) == 2
    assert len(set(regions[2])) == 2
    assert len(set(regions[3])) == 4
    # A window of one row is not shifted on that axis: nothing to separate.
    assert all(len(set(window)) == 1 for window in shifted_regions((2, 4), (1, 4), (0, 0)))


def test_position_code_restarts_in_each_window():
    x = jnp.zeros((1, 4, 6, 8))
    coded = add_position(x, (2, 3))
    np.testing.assert_array_equal(coded[0, :2, :3], coded[0, 2:, 3:])
    code = sine_position(2, 3, 8)
    # First half: y. The last place of an axis is a full turn.
    np.testing.assert_allclose(code[1, 0, :2], [0.0, np.cos(2 * np.pi / 100**0)], atol=1e-5)
    np.testing.assert_array_equal(code[0, 0, :4], code[0, 2, :4])
    np.testing.assert_array_equal(code[0, 1, 4:], code[1, 1, 4:])


def test_attention_stays_within_the_window_and_its_region(key):
    x = noise(key, 2, 8, 8, 128)
    params, apply = transformer_params(x, (4, 4)), attending((4, 4))
    single = jax.tree.map(np.zeros_like, params)
    for i in (0, 1):
        single["params"][f"layers_{i}"] = params["params"][f"layers_{i}"]
    # With all other blocks silent, reach is one window, then one window shifted by half.
    changed = x.at[:, 0, 0].add(1.0)
    moved = np.abs(apply(single, changed) - apply(single, x)).max(axis=(0, 3))
    assert (moved[:6, :6] > 0).all()
    # Beyond it, and at the opposite border that rolling brings near, only exp(-100) could leak.
    assert moved[6:].max() == moved[:, 6:].max() == 0.0


@pytest.mark.parametrize("group", [1, 40])
def test_groups_of_windows_change_nothing(key, group):
    x = noise(key, 4, 8, 12, 128)
    params = transformer_params(x, (4, 3))
    expected = attending((4, 3))(params, x)
    grouped = attending((4, 3), group)(params, x)
    np.testing.assert_allclose(grouped, expected, atol=2e-3)  # of values up to 15


def test_global_matching_finds_distinct_pixels_both_ways(key):
    a = distinct(key, 1, 5, 6, 16)
    b = jnp.roll(a, (1, 2), axis=(1, 2))
    forward, backward = global_matching(a, b)
    np.testing.assert_allclose(
        forward[:4, :4], jnp.broadcast_to(jnp.array([[[2.0, 1.0]]]), (4, 4, 2)), atol=1e-3
    )
    np.testing.assert_allclose(
        backward[1:, 2:], jnp.broadcast_to(jnp.array([[[-2.0, -1.0]]]), (4, 4, 2)), atol=1e-3
    )


def test_local_matching_finds_distinct_pixels_and_nothing_outside(key):
    a = distinct(key, 1, 12, 14, 16)
    b = jnp.roll(a, (-3, 4), axis=(1, 2))
    flow = local_matching(a, b)
    np.testing.assert_allclose(flow[0, 3:, :10] - jnp.array([[[4.0, -3.0]]]), 0.0, atol=1e-3)
    x, y = jnp.arange(14)[None], jnp.arange(12)[:, None]
    # A mean of places inside the image lies inside.
    assert ((flow[0, ..., 0] + x >= 0) & (flow[0, ..., 0] + x <= 13)).all()
    assert ((flow[0, ..., 1] + y >= 0) & (flow[0, ..., 1] + y <= 11)).all()


def test_neighbourhood_matches_torch_unfold(key):
    torch = pytest.importorskip("torch")
    x = noise(key, 2, 5, 6, 3)
    unfolded = torch.nn.functional.unfold(torch.tensor(np.array(x)).permute(0, 3, 1, 2), 3, padding=1)
    expected = unfolded.reshape(2, 3, 9, 5, 6).permute(0, 3, 4, 2, 1)
    np.testing.assert_array_equal(neighbourhood(x, 1), expected)


@pytest.mark.parametrize("local", [False, True])
def test_propagation_is_a_mean_of_flows(key, local):
    module = Propagation()
    features, flow = noise(key, 1, 6, 7, 8), jnp.full((1, 6, 7, 2), 3.0)
    result = module.apply(module.init(key, features, flow, local), features, flow, local)
    inner = result[:, 1:-1, 1:-1] if local else result
    np.testing.assert_allclose(inner, 3.0, atol=1e-5)
    # The local one takes the flow outside as 0.
    assert (np.asarray(result[:, 0]) < 2.99).all() == local


def test_convex_upsampling_matches_torch(key):
    torch = pytest.importorskip("torch")
    flow, logits = noise(key, 2, 3, 4, 2), noise(jax.random.fold_in(key, 1), 2, 3, 4, 144)
    mask = torch.tensor(np.array(logits)).permute(0, 3, 1, 2).reshape(2, 1, 9, 4, 4, 3, 4).softmax(dim=2)
    unfolded = torch.nn.functional.unfold(4 * torch.tensor(np.array(flow)).permute(0, 3, 1, 2), 3, padding=1)
    fine = (mask * unfolded.reshape(2, 2, 9, 1, 1, 3, 4)).sum(dim=2)
    expected = fine.permute(0, 4, 2, 5, 3, 1).reshape(2, 12, 16, 2)
    np.testing.assert_allclose(convex_upsample(flow, logits), expected, atol=1e-5)
