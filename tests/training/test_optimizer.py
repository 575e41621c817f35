"""AdamW with cosine decay: what decays, what is clipped, what learns faster."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.common import base
from ldip_jax.training.optimizer import learning_rate, make_optimizer

PARAMS = {
    "lrrf": {"hrip": {"kernel": jnp.ones(3)}, "ref_fusion": {"kernel": jnp.ones(3), "bias": jnp.ones(3)}}
}


def first_update(config, gradient):
    optimizer = make_optimizer(config)
    gradients = jax.tree.map(lambda leaf: jnp.full_like(leaf, gradient), PARAMS)
    updates, _ = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
    return updates["lrrf"]


def test_the_rate_falls_along_a_cosine():
    config = base()
    config.steps = 1000
    rate = learning_rate(config)
    np.testing.assert_allclose([rate(0), rate(500), rate(1000)], [2e-4, 1.005e-4, 1e-6], rtol=1e-5)
    config.warmup_steps = 100
    np.testing.assert_allclose([learning_rate(config)(n) for n in (0, 50, 100)], [0, 1e-4, 2e-4], rtol=1e-5)


def test_only_kernels_decay():
    updates = first_update(base(), 0.0)
    np.testing.assert_allclose(updates["ref_fusion"]["kernel"], -2e-4 * 0.01, rtol=1e-5)
    assert not updates["ref_fusion"]["bias"].any()


@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_hrip_may_learn_faster(factor):
    config = base()
    config.hrip_rate, config.weight_decay = factor, 0.0
    updates = first_update(config, 1.0)
    np.testing.assert_allclose(updates["hrip"]["kernel"], factor * updates["ref_fusion"]["kernel"], rtol=1e-6)


def test_clipping_bounds_the_norm_over_all_trained_parameters():
    """Adam's first update is as large as the learning rate, whatever the gradient; moments show the norm."""
    config = base()
    config.clip_norm = 1.0
    optimizer = make_optimizer(config)
    gradients = jax.tree.map(lambda leaf: jnp.full_like(leaf, 100.0), PARAMS)
    _, state = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
    moments = jax.tree.leaves(state[1][0].mu)
    np.testing.assert_allclose(sum(float(jnp.sum(m**2)) for m in moments) ** 0.5, 0.1, rtol=1e-5)
