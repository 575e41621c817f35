"""The one constant by which LRRF's features are divided: how large the backbone's HR features are."""

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.models.ldip import LDIP
from ldip_jax.ops.grid import whole_grid
from ldip_jax.training.detail_maps import Example
from ldip_jax.training.setup import Run


def with_feature_scale(run: Run, clips: Iterable[Example]) -> Run:
    """The run with the standard deviation of its HR features as LRRF's scale.

    Rounded to two digits, so that all processes and machines of a run agree.

    Args:
        clips: training clips; the middle frame of each is looked at.
    """
    assert run.net.lrrf is not None
    net = run.net.clone(lrrf=None)

    @jax.jit
    def spread(features: Float[Array, "1 h w c"]) -> Float[Array, ""]:
        h, w = features.shape[1:3]
        grid = None if net.as_head is None else whole_grid((h, w), (4 * h, 4 * w))
        hr = net.apply({"params": run.frozen}, features, grid, method=LDIP.upscale)
        return jnp.std(cast(Array, hr))

    middles = (clip.features[len(clip.features) // 2] for clip in clips)
    found = [float(spread(jnp.asarray(features[None], jnp.float32))) for features in middles]
    scale = float(f"{np.mean(found):.2g}")
    lrrf = run.net.lrrf.clone(feature_scale=scale)
    modules = {**run.modules, "lrrf": {**run.modules["lrrf"], "feature_scale": scale}}
    return replace(run, net=run.net.clone(lrrf=lrrf), modules=modules)
