"""How much a still looks like a frame, cheaply: finds the few among many stills that are worth a match.

The likeness is the mean, over the places of a small copy of the frame, of the best cosine similarity between
the features there and those anywhere in the still. Where things are does not matter, so motion and another
viewpoint lower it little. Each image is described once; a comparison is one matrix product.

Measured with GMFlow's features on 15 clips (DAVIS and others at 192x128, two frames of each): five stills of
the clip, 4 to 40 frames away, and 42 of other clips. The best one was a still of the clip in all 30 cases.
Those of other clips score up to 0.725; those of the clip, mostly 0.73 to 0.84.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.matching.dense import ImageCache, resize_image
from ldip_jax.matching.matcher import OnDisk

# The longer side of the small copies, and what their sides are multiples of.
LONGER_SIDE, MULTIPLE = 288, 32
# Stills of other scenes are not more alike than this.
LIKELY = 0.725
# Descriptions of this many stills are kept; each takes half a megabyte or less.
CACHED_STILLS = 256

Describe = Callable[[Float[Array, "1 h w 3"]], Float[Array, "1 y x c"]]
Description = Float[np.ndarray, "n c"]


class Retrieval:
    """Compares frames with stills by the features of a network."""

    def __init__(self, describe: Describe):
        """`describe`: from an image in [0, 1] to features, at a fraction of its size."""
        self._features = describe
        self._frame_cache, self._still_cache = (
            ImageCache(self._describe, capacity=1),
            ImageCache(self._describe, CACHED_STILLS),
        )

    def __call__(
        self,
        frame: Float[Array, "1 h w 3"] | Float[np.ndarray, "1 h w 3"],
        still: Float[Array, "1 H W 3"] | Float[np.ndarray, "1 H W 3"] | OnDisk,
    ) -> float:
        """The likeness of a still to a frame, at most 1."""
        of_frame, of_still = self._frame_cache(frame), self._still_cache(still)
        return float((of_frame @ of_still.T).max(axis=1).mean())

    def _describe(self, image: Array | np.ndarray) -> Description:
        sides = image.shape[1:3]
        h, w = (max(1, round(LONGER_SIDE * side / max(sides) / MULTIPLE)) * MULTIPLE for side in sides)
        features = np.asarray(self._features(resize_image(jnp.asarray(image), (h, w))), np.float32)
        features = features.reshape(-1, features.shape[-1])
        return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-6)
