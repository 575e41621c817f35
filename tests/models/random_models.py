"""Small LDIPs with random parts, for the tests of models and inference."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from ldip_jax.models.ldip import LDIP, KeyFrames
from ldip_jax.models.lrrf import LRRF, init_lrrf
from ldip_jax.models.networks.basicvsr import BasicVSR
from ldip_jax.models.ref_align import Reference
from ldip_jax.models.trainable import initialise
from ldip_jax.weights.network import backbone_shapes

NARROW = {"mid_channels": 8, "num_blocks": 2}


@cache
def _random_backbone() -> dict:
    """Kernels as Flax draws them, and no biases; with NumPy, because JAX would compile for seconds."""
    rng = np.random.default_rng(0)

    def fill(leaf):
        if leaf.ndim < 4:
            return np.zeros(leaf.shape, np.float32)
        # An axis before a kernel's four is that of stacked layers.
        deviation = np.prod(leaf.shape[-4:-1]) ** -0.5
        return (deviation * rng.standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree.map(fill, backbone_shapes(BasicVSR(**NARROW)))


@cache
def _untrained_lrrf(attention: str) -> dict:
    """Real initial parameters, computed once."""
    lrrf = LRRF(attention=attention)
    return initialise(lambda key: init_lrrf(lrrf, key), jax.random.key(1))


def untrained_lrrf(attention="ica"):
    """The initial parameters of a full-size LRRF, which may be changed."""
    return jax.tree.map(lambda leaf: leaf, _untrained_lrrf(attention))


def narrow_ldip(band_pixels=None, attention="ica", gate="none"):
    """A full-size LRRF, untrained, on a narrow BasicVSR: the modules, and parameters that may be changed."""
    net = LDIP(
        BasicVSR(**NARROW, band_pixels=band_pixels),
        LRRF(feature_scale=0.5, attention=attention, gate=gate, band_pixels=band_pixels),
    )
    backbone = jax.tree.map(lambda leaf: leaf, _random_backbone())
    return net, {"backbone": backbone, "lrrf": untrained_lrrf(attention)}


def shaken_lrrf(rng, **options):
    """Only LRRF, with noise on every parameter."""
    net, params = narrow_ldip(**options)
    return net.lrrf, shaken(params["lrrf"], rng)


def shaken(params, rng, scale=0.05):
    """Parameters with noise on every leaf, including those of silent layers."""
    noise = lambda shape: np.float32(scale) * rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    # With NumPy: JAX would compile a program for each shape.
    return jax.tree.map(lambda a: jnp.asarray(np.asarray(a) + noise(a.shape)), params)


def random_references(rng, lead, size, image=(24, 20)) -> Reference:
    """References with random warps that partly miss; `lead` are the axes before the maps'."""
    h, w = image
    shape = (*lead, *size)
    warp = rng.uniform(-4.0, max(image) + 4.0, (*shape, 2))
    return Reference(
        jnp.asarray(rng.uniform(0, 1, (*lead, h, w, 3)), jnp.float32),
        jnp.asarray(np.broadcast_to(np.array([h, w], np.int32), (*lead, 2))),
        jnp.asarray(warp, jnp.float32),
        jnp.asarray(rng.uniform(0, 1, (*shape, 1)), jnp.float32),
        jnp.asarray(np.ones(lead, np.float32)),
    )


def random_keys(rng, index, size, references=3) -> KeyFrames:
    """Key-frames at `index` (clip by clip) of HR `size`, all valid."""
    index = np.asarray(index, np.int32)
    return KeyFrames(
        jnp.asarray(index),
        jnp.asarray(np.ones(index.shape, np.float32)),
        random_references(rng, (*index.shape, references), size),
    )
