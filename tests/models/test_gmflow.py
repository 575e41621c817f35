"""GMFlow: against the official network's output, and what must hold for any weights.

`golden/gmflow.npz` holds a synthetic pair and its flows by the official PyTorch network in float64.
"""

from functools import cache, partial
from pathlib import Path

import jax
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
from ldip_jax.weights.identify import NETWORKS
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
    return random_like(NETWORKS["gmflow"].skeleton({}), np.random.default_rng(1))


def flows_of(params, a, b):
    return GMFlow().apply({"params": params}, a, b)


# In float32 the program compiles for longer than it runs; in float64 it does not.
run, run_long = quick_jit(flows_of), jax.jit(flows_of)


@pytest.fixture(scope="module")
def golden_flows(published, golden):
    """Forward and backward."""
    return run(published, *golden[:2])


@cache
def attending(windows, group=None):
    """The transformer, traced and compiled once for each size of features and windows."""
    transformer = Transformer() if group is None else Transformer(group=group)
    return quick_jit(lambda params, x: transformer.apply(params, x, windows))


@pytest.fixture(scope="module")
def transformer_params(random_params):
    return {"params": random_params["transformer"]}


def noise(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def distinct(rng, *shape):
    """Features of equal length, so long that each pixel's best match by far is itself."""
    x = noise(rng, *shape)
    return np.float32(20) * x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_parameter_count_is_the_published_one(random_params):
    assert sum(leaf.size for leaf in jax.tree.leaves(random_params)) == 4_716_720


def test_flows_equal_the_official_network(golden, golden_flows):
    error = np.abs(np.concatenate(golden_flows) - golden[2])
    # The official network in float32 is itself up to 5e-4 pixels away from its float64 result here.
    assert np.quantile(error, 0.99) < 1e-3
    assert error.max() < 3e-3


def test_flows_equal_the_official_network_in_float64(published, golden):
    a, b, expected = golden
    with jax.enable_x64(True):
        params = jax.tree.map(np.float64, published)
        flows = run_long(params, a.astype(np.float64), b.astype(np.float64))
        np.testing.assert_allclose(np.concatenate(flows), expected, atol=2e-4)


def test_swapped_images_swap_the_flows(published, golden, golden_flows):
    a, b, _ = golden
    forward, backward = golden_flows
    swapped_forward, swapped_backward = run(published, b, a)
    np.testing.assert_allclose(swapped_forward, backward, atol=3e-3)
    np.testing.assert_allclose(swapped_backward, forward, atol=3e-3)


def test_an_image_matches_itself_in_place(published):
    scene = blocks(seed=0, height=192, width=256)[None]
    for flow in run(published, scene, scene):
        assert np.quantile(np.abs(flow), 0.9) < 0.1


def test_a_batch_equals_its_images_one_by_one(published, golden, golden_flows):
    a, b, _ = golden
    together = run(published, np.concatenate([a, b]), np.concatenate([b, b]))
    for i, unbatched in enumerate((golden_flows, run(published, b, b))):
        for batched, single in zip(together, unbatched, strict=True):
            np.testing.assert_allclose(batched[i : i + 1], single, atol=3e-3)


def test_sides_that_are_not_multiples_of_32_are_refused(random_params):
    with pytest.raises(ValueError, match="multiples of 32"):
        run(random_params, *np.zeros((2, 1, 32, 40, 3), np.float32))


def test_smallest_size_has_windows_of_one_pixel_and_finite_flow(random_params, rng):
    images = rng.random((2, 1, 32, 32, 3)).astype(np.float32)
    for flow in run(random_params, *images):
        assert flow.shape == (1, 32, 32, 2)
        assert np.isfinite(flow).all()


def test_instance_norm_matches_torch(rng):
    torch = pytest.importorskip("torch")
    x = 3 + 2 * noise(rng, 2, 9, 7, 4)
    expected = torch.nn.functional.instance_norm(torch.tensor(x).permute(0, 3, 1, 2), eps=1e-5)
    np.testing.assert_allclose(quick_jit(instance_norm)(x), expected.permute(0, 2, 3, 1), atol=1e-5)


def test_trident_is_one_kernel_at_two_strides(rng):
    x = noise(rng, 1, 8, 12, 4)
    kernel = noise(rng, 3, 3, 4, 4) / np.float32(6)

    @quick_jit
    def both(x, kernel):
        return TridentConv().apply({"params": {"kernel": kernel}}, x), conv2d(x, kernel)

    (fine, coarse), expected = jax.tree.map(np.asarray, both(x, kernel))
    np.testing.assert_array_equal(fine, expected)
    np.testing.assert_allclose(coarse, fine[:, ::2, ::2], atol=1e-5)


def test_windows_are_merged_back(rng):
    x = noise(rng, 2, 6, 12, 3)
    windows = np.asarray(quick_jit(partial(split_windows, window=(3, 4)))(x))
    np.testing.assert_array_equal(windows[1], x[0, :3, 4:8].reshape(12, 3))
    merged = quick_jit(partial(merge_windows, window=(3, 4), size=(6, 12)))(windows)
    np.testing.assert_array_equal(merged, x)


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
    x = np.zeros((1, 4, 6, 8), np.float32)
    coded = np.asarray(quick_jit(partial(add_position, window=(2, 3)))(x))
    np.testing.assert_array_equal(coded[0, :2, :3], coded[0, 2:, 3:])
    code = sine_position(2, 3, 8)
    # First half: y. The last place of an axis is a full turn.
    np.testing.assert_allclose(code[1, 0, :2], [0.0, np.cos(2 * np.pi / 100**0)], atol=1e-5)
    np.testing.assert_array_equal(code[0, 0, :4], code[0, 2, :4])
    np.testing.assert_array_equal(code[0, 1, 4:], code[1, 1, 4:])


def test_attention_stays_within_the_window_and_its_region(transformer_params, rng):
    x, apply = noise(rng, 2, 8, 8, 128), attending((4, 4))
    single = jax.tree.map(np.zeros_like, transformer_params)
    for i in (0, 1):
        single["params"][f"layers_{i}"] = transformer_params["params"][f"layers_{i}"]
    # With all other blocks silent, reach is one window, then one window shifted by half.
    changed = x.copy()
    changed[:, 0, 0] += 1
    moved = np.abs(np.asarray(apply(single, changed)) - apply(single, x)).max(axis=(0, 3))
    assert (moved[:6, :6] > 0).all()
    # Beyond it, and at the opposite border that rolling brings near, only exp(-100) could leak.
    assert moved[6:].max() == moved[:, 6:].max() == 0.0


@pytest.mark.parametrize("group", [1, 40])
def test_groups_of_windows_change_nothing(transformer_params, rng, group):
    x = noise(rng, 4, 8, 12, 128)
    expected = attending((4, 3))(transformer_params, x)
    grouped = attending((4, 3), group)(transformer_params, x)
    np.testing.assert_allclose(grouped, expected, atol=2e-3)  # of values up to 15


def test_global_matching_finds_distinct_pixels_both_ways(rng):
    a = distinct(rng, 1, 5, 6, 16)
    b = np.roll(a, (1, 2), axis=(1, 2))
    forward, backward = map(np.asarray, quick_jit(global_matching)(a, b))
    np.testing.assert_allclose(forward[:4, :4], np.broadcast_to([2.0, 1.0], (4, 4, 2)), atol=1e-3)
    np.testing.assert_allclose(backward[1:, 2:], np.broadcast_to([-2.0, -1.0], (4, 4, 2)), atol=1e-3)


def test_local_matching_finds_distinct_pixels_and_nothing_outside(rng):
    a = distinct(rng, 1, 12, 14, 16)
    b = np.roll(a, (-3, 4), axis=(1, 2))
    flow = np.asarray(quick_jit(local_matching)(a, b))
    np.testing.assert_allclose(flow[0, 3:, :10] - [4.0, -3.0], 0.0, atol=1e-3)
    y, x = np.mgrid[:12, :14]
    # A mean of places inside the image lies inside.
    assert ((flow[0, ..., 0] + x >= 0) & (flow[0, ..., 0] + x <= 13)).all()
    assert ((flow[0, ..., 1] + y >= 0) & (flow[0, ..., 1] + y <= 11)).all()


def test_neighbourhood_matches_torch_unfold(rng):
    torch = pytest.importorskip("torch")
    x = noise(rng, 2, 5, 6, 3)
    unfolded = torch.nn.functional.unfold(torch.tensor(x).permute(0, 3, 1, 2), 3, padding=1)
    expected = unfolded.reshape(2, 3, 9, 5, 6).permute(0, 3, 4, 2, 1)
    np.testing.assert_array_equal(quick_jit(partial(neighbourhood, radius=1))(x), expected)


@pytest.mark.parametrize("local", [False, True])
def test_propagation_is_a_mean_of_flows(key, rng, local):
    features, flow = noise(rng, 1, 6, 7, 8), np.full((1, 6, 7, 2), 3.0, np.float32)

    @quick_jit
    def propagate(key, features, flow):
        module = Propagation()
        return module.apply(module.init(key, features, flow, local), features, flow, local)

    result = np.asarray(propagate(key, features, flow))
    inner = result[:, 1:-1, 1:-1] if local else result
    np.testing.assert_allclose(inner, 3.0, atol=1e-5)
    # The local one takes the flow outside as 0.
    assert (result[:, 0] < 2.99).all() == local


def test_convex_upsampling_matches_torch(rng):
    torch = pytest.importorskip("torch")
    flow, logits = noise(rng, 2, 3, 4, 2), noise(rng, 2, 3, 4, 144)
    mask = torch.tensor(logits).permute(0, 3, 1, 2).reshape(2, 1, 9, 4, 4, 3, 4).softmax(dim=2)
    unfolded = torch.nn.functional.unfold(4 * torch.tensor(flow).permute(0, 3, 1, 2), 3, padding=1)
    fine = (mask * unfolded.reshape(2, 2, 9, 1, 1, 3, 4)).sum(dim=2)
    expected = fine.permute(0, 4, 2, 5, 3, 1).reshape(2, 12, 16, 2)
    np.testing.assert_allclose(quick_jit(convex_upsample)(flow, logits), expected, atol=1e-5)
