"""A matcher without a network, and stills of noise."""

import jax.numpy as jnp
import numpy as np

from ldip_jax.inference.reference_images import Still
from ldip_jax.matching.matcher import Match
from tests.networks import HR


class TopLeftMatcher:
    """Matches every pixel with the same place in the reference, except at `blind` key-frames."""

    def __init__(self):
        self.matched, self.confidence, self.blind = [], 1.0, set()

    def coarse(self, pair):
        self.matched.append((pair.key_frame, pair.name))
        y, x = jnp.mgrid[: pair.size[0], : pair.size[1]].astype(jnp.float32)
        warp = jnp.stack([x, y], axis=-1)[None]
        confidence = 0.0 if pair.key_frame in self.blind else self.confidence
        return Match(warp, jnp.full((1, *pair.size, 1), confidence, jnp.float32))

    def refine(self, pair, match, scale):
        return match


def stills(count):
    values = np.random.default_rng(6).uniform(0, 1, (count, *HR, 3)).astype(np.float32)
    return [Still(f"still{number}", image) for number, image in enumerate(values)]
