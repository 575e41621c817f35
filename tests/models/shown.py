"""An LDIP for any scale, whose frames show the flow that HRIP gets."""

import jax.numpy as jnp

from ldip_jax.models.arbitrary_scale import ArbitraryScale, ArbitraryScaleDecoder
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.lrrf import LRRF
from ldip_jax.models.networks.basicvsr import BasicVSR
from tests.models.random_models import NARROW


class Shown(LRRF):
    """Writes the flow that HRIP gets into the features, to separate channels for each pass."""

    def setup(self):
        pass

    def refine(self, hr, references):
        return hr

    def propagate(self, reverse, current, previous, flow):
        first = 2 * int(reverse)
        return current.at[..., first : first + 2].set(flow)


class Blank(ArbitraryScale):
    """Features of the right size."""

    def setup(self):
        pass

    def __call__(self, features, grid):
        return jnp.zeros((len(features), len(grid.rows.index), len(grid.columns.index), 64))


class Plain(ArbitraryScaleDecoder):
    """The first channels of the features: x and y of the second pass, x of the first one."""

    def setup(self):
        pass

    def __call__(self, hr, frame, grid, hook="hr_pre"):
        return hr[..., :3]


def showing(**options) -> LDIP:
    """Its frames are the flow to the previous frame (x and y) and to the next one (x), in HR pixels."""
    return LDIP(BasicVSR(**NARROW), Shown(), Blank(), Plain(), **options)
