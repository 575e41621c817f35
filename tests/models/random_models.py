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

NARROW = {"mid_channels": 8, "num_blocks": 2}


@cache
def _untrained(attention: str) -> dict:
    """Real initial parameters, computed once."""
    backbone, lrrf = BasicVSR(**NARROW), LRRF(attention=attention)
    frames = jnp.zeros((1, 2, 8, 8, 3))
    return {
        "backbone": initialise(lambda key: backbone.init(key, frames)["params"], jax.random.key(0)),
        "lrrf": initialise(lambda key: init_lrrf(lrrf, key), jax.random.key(1)),
    }


def narrow_ldip(band_pixels=None, attention="ica", gate="none"):
    """A full-size LRRF, untrained, on a narrow BasicVSR: the modules, and parameters that may be changed."""
    net = LDIP(
        BasicVSR(**NARROW, band_pixels=band_pixels),
        LRRF(feature_scale=0.5, attention=attention, gate=gate, band_pixels=band_pixels),
    )
    return net, jax.tree.map(lambda leaf: leaf, _untrained(attention))


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
        jnp.broadcast_to(jnp.array([h, w], jnp.int32), (*lead, 2)),
        jnp.asarray(warp, jnp.float32),
        jnp.asarray(rng.uniform(0, 1, (*shape, 1)), jnp.float32),
        jnp.ones(lead, jnp.float32),
    )


def random_keys(rng, index, size, references=3) -> KeyFrames:
    """Key-frames at `index` (clip by clip) of HR `size`, all valid."""
    index = np.asarray(index, np.int32)
    return KeyFrames(
        jnp.asarray(index),
        jnp.ones(index.shape, jnp.float32),
        random_references(rng, (*index.shape, references), size),
    )
