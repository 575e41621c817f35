"""Deformable convolution: its definition, its borders, its gradients and its memory."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.conv import conv2d
from ldip_jax.ops.deform_conv import deform_conv

# Kernel, stride, padding, dilation, groups, deformable groups; channels are four.
SHAPES = [
    ((3, 3), 1, 1, 1, 1, 4),
    ((1, 1), 1, 0, 1, 1, 2),
    ((5, 3), 1, 2, 1, 1, 1),
    ((2, 3), 1, 0, 2, 4, 1),
    ((3, 3), 3, 4, 3, 2, 4),
]
H, W, CHANNELS, OUT = 9, 12, 4, 8
OPTIONS = ("stride", "padding", "dilation", "groups", "band_pixels")
run = jax.jit(deform_conv, static_argnames=OPTIONS)


def arguments(rng, kernel, stride, padding, dilation, groups, deform_groups, spread=2.0):
    """Map, offsets, mask and kernel, float64; a third of the offsets are whole pixels, some are far away."""
    rows, columns = (
        (side + 2 * padding - dilation * (k - 1) - 1) // stride + 1
        for side, k in zip((H, W), kernel, strict=True)
    )
    taps = kernel[0] * kernel[1]
    shape = (2, rows, columns, deform_groups, taps)
    offsets = spread * rng.standard_normal((*shape, 2))
    offsets = np.where(rng.random(offsets.shape) < 0.3, np.round(offsets), offsets)
    offsets = np.where(rng.random(offsets.shape) < 0.02, 1e6 * offsets, offsets)
    return (
        rng.standard_normal((2, H, W, CHANNELS)),
        offsets.reshape(2, rows, columns, -1),
        rng.random((2, rows, columns, deform_groups * taps)),
        rng.standard_normal((*kernel, CHANNELS // groups, OUT)),
    )


def options(kernel, stride, padding, dilation, groups, deform_groups):
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def by_definition(x, offsets, mask, kernel, stride, padding, dilation, groups):
    """One term at a time, with NumPy in float64."""
    b, rows, columns, _ = mask.shape
    kh, kw, inner, outer = kernel.shape
    g = mask.shape[-1] // (kh * kw)
    offsets = offsets.reshape(b, rows, columns, g, kh, kw, 2)
    mask = mask.reshape(b, rows, columns, g, kh, kw)

    def sample(image, px, py):
        x0, y0 = int(np.floor(px)), int(np.floor(py))
        total = 0.0
        for i, j in itertools.product((y0, y0 + 1), (x0, x0 + 1)):
            if 0 <= i < H and 0 <= j < W:
                total = total + image[i, j] * (1 - abs(py - i)) * (1 - abs(px - j))
        return total

    out = np.zeros((b, rows, columns, outer))
    for n, y, column, c, i, j in itertools.product(*map(range, (b, rows, columns, CHANNELS, kh, kw))):
        group = c // (CHANNELS // g)
        dx, dy = offsets[n, y, column, group, i, j]
        value = sample(
            x[n, ..., c],
            column * stride - padding + j * dilation + dx,
            y * stride - padding + i * dilation + dy,
        )
        part, at = divmod(c, inner)
        own = slice(part * outer // groups, (part + 1) * outer // groups)
        out[n, y, column, own] += kernel[i, j, at, own] * mask[n, y, column, group, i, j] * value
    return out


def as_float32(arrays):
    return tuple(array.astype(np.float32) for array in arrays)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_equals_its_definition(rng, shape):
    args = arguments(rng, *shape)
    expected = by_definition(*args, **options(*shape))
    np.testing.assert_allclose(run(*as_float32(args), **options(*shape)), expected, atol=2e-5)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 1)])
def test_without_offsets_it_is_the_plain_convolution(rng, kernel, stride):
    x, offsets, mask, weights = as_float32(arguments(rng, (kernel, kernel), stride, kernel // 2, 1, 1, 2))

    def both(x, offsets, mask, weights):
        still = deform_conv(x, offsets, mask, weights, stride=stride, padding=kernel // 2)
        return still, conv2d(x, weights, stride)

    still, plain = quick_jit(both)(x, np.zeros_like(offsets), np.ones_like(mask), weights)
    np.testing.assert_allclose(still, plain, atol=1e-5)


def test_samples_fade_out_over_one_pixel_beyond_the_border():
    x = np.full((1, 3, 4, 1), 2.0, np.float32)
    places = np.array([-1.5, -1.0, -0.5, 0.0, 3.0, 3.25, 4.0, 99.0], np.float32)
    offsets = np.stack([places - np.arange(8), np.ones(8)], axis=-1)[None, None]
    out = run(x, offsets, np.ones((1, 1, 8, 1)), np.ones((1, 1, 1, 1)))
    np.testing.assert_allclose(np.ravel(out), [0, 0, 1, 2, 2, 1.5, 0, 0], atol=1e-6)


def test_a_place_that_is_nan_reads_nothing():
    # The sizes of the test above, so that both run the same program.
    shapes = (1, 3, 4, 1), (1, 1, 8, 2), (1, 1, 8, 1), (1, 1, 1, 1)
    x, offsets, mask, kernel = (np.ones(shape, np.float32) for shape in shapes)
    out = run(x, np.nan * offsets, mask, kernel)
    np.testing.assert_array_equal(out, 0)


def test_gradients_equal_finite_differences(rng):
    shape = ((3, 3), 2, 1, 1, 2, 2)
    args = arguments(rng, *shape)
    # Away from whole pixels, where the slope jumps.
    args = (args[0], np.floor(args[1]) + rng.uniform(0.1, 0.9, args[1].shape), *args[2:])
    weights = rng.standard_normal((*args[2].shape[:3], OUT))

    def loss(*args):
        return jnp.sum(deform_conv(*args, **options(*shape)) * weights.astype(np.float32))

    gradients = quick_jit(jax.grad(loss, argnums=range(4)))(*as_float32(args))
    for place, gradient in enumerate(gradients):
        direction = rng.standard_normal(args[place].shape)
        ends = []
        for sign in (-1, 1):
            moved = list(args)
            moved[place] = moved[place] + sign * 1e-6 * direction
            ends.append(np.sum(by_definition(*moved, **options(*shape)) * weights))
        slope = (ends[1] - ends[0]) / 2e-6
        np.testing.assert_allclose(np.sum(np.float64(gradient) * direction), slope, rtol=1e-3, atol=1e-3)


def test_places_outside_have_no_gradient():
    def loss(offsets):
        kernel, mask = jnp.ones((1, 1, 1, 1)), jnp.ones((1, 1, 3, 1))
        return jnp.sum(deform_conv(jnp.ones((1, 3, 3, 1)), offsets, mask, kernel))

    offsets = np.array([[-1.0, 0.0], [-5.0, 0.0], [-2.5, 1.0]], np.float32)[None, None]
    slopes = np.asarray(quick_jit(jax.grad(loss))(offsets))[0, 0]
    np.testing.assert_array_equal(slopes[:2], 0)
    np.testing.assert_array_equal(slopes[2], [1, 0])


def test_bands_and_parts_change_nothing(rng):
    shape = ((3, 3), 1, 1, 1, 1, 4)
    x, offsets, mask, kernel = as_float32(arguments(rng, *shape))

    def value_and_gradients(band_pixels):
        def loss(x, offsets, mask, kernel):
            out = deform_conv(x, offsets, mask, kernel, padding=1, band_pixels=band_pixels)
            return jnp.sum(jnp.sin(out)), out

        gradients, out = quick_jit(jax.grad(loss, (0, 1), has_aux=True))(x, offsets, mask, kernel)
        return np.asarray(out), gradients

    (whole, gradients), (banded, in_bands) = map(value_and_gradients, (None, 30))
    np.testing.assert_allclose(banded, whole, atol=1e-6)
    part = run(x, offsets[:, 4:7], mask[:, 4:7], kernel, padding=1, first_row=4)
    np.testing.assert_allclose(part, whole[:, 4:7], atol=1e-6)
    for one, other in zip(gradients, in_bands, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_half_precision_keeps_exact_places(rng):
    shape = ((3, 3), 1, 1, 1, 1, 4)
    args = as_float32(arguments(rng, *shape, spread=1.0))
    x, offsets, mask, kernel = args
    half = run(x.astype(jnp.bfloat16), offsets, mask, kernel, **options(*shape))
    assert half.dtype == jnp.bfloat16
    exact = np.asarray(run(*args, **options(*shape)))
    assert np.abs(np.float32(half) - exact).max() < 0.03 * np.abs(exact).max()


def temporaries(function, *args):
    return jax.jit(function).lower(*args).compile().memory_analysis().temp_size_in_bytes


def test_memory_is_that_of_one_tap_of_one_band():
    height, width, channels, groups = 64, 96, 32, 16
    shapes = ((channels,), (groups * 18,), (groups * 9,))
    maps = [jax.ShapeDtypeStruct((1, height, width, *shape), jnp.float32) for shape in shapes]
    kernel = jax.ShapeDtypeStruct((3, 3, channels, 16), jnp.float32)

    def forward(*args, band_pixels=768):
        return deform_conv(*args, padding=1, band_pixels=band_pixels)

    def backward(*args):
        return jax.grad(lambda *args: jnp.sum(forward(*args) ** 2), (0, 1))(*args)

    samples = height * width * channels * 4
    offsets = height * width * groups * 27 * 4
    # The map by groups, and for an eighth of the rows, offsets and the samples of a few taps.
    assert temporaries(forward, *maps, kernel) < samples + (offsets + 9 * samples) / 8
    # Gradients of map and offsets, as they are and as they are summed.
    assert temporaries(backward, *maps, kernel) < 3 * (samples + offsets)


@pytest.mark.parametrize(
    ("offsets", "mask", "kernel", "groups"),
    [
        (18, 8, (3, 3, 4, 8), 1),
        (18, 18, (3, 3, 4, 8), 1),
        (54, 27, (3, 3, 4, 8), 1),
        (18, 9, (3, 3, 4, 8), 2),
    ],
)
def test_inconsistent_channels_are_refused(offsets, mask, kernel, groups):
    maps = jnp.zeros((1, 4, 4, 4)), jnp.zeros((1, 4, 4, offsets)), jnp.zeros((1, 4, 4, mask))
    with pytest.raises(ValueError, match="channels"):
        deform_conv(*maps, jnp.zeros(kernel), padding=1, groups=groups)
