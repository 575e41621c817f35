"""What references give without any learning: a yardstick for trained weights.

Each frame is upscaled by only the backbone and matched with every reference. The differences between the
references and the frame are then added to it, pixel by pixel, with the best weights in hindsight: least
squares against the ground truth, frame by frame, with one weight for each reference and combination of
confidence bins. No fusion with so few weights can do better, and a trained one does not know the ground
truth.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.references import ReferenceChoice
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.matching.matcher import Matcher, Pair
from ldip_jax.media.color import as_float
from ldip_jax.ops.warp import nearest

# Confidence below the first value does not count as a match.
BINS = (0.2, 0.5, 0.8, 0.95)

Image = Float[np.ndarray, "H W 3"]
Warped = tuple[Image, Float[np.ndarray, "H W"]]
"""A reference, sampled where it matches, and the confidence of the match."""


def transfer(image: Image, truth: Image, references: Sequence[Warped]) -> Image:
    """The image with the best combination of the references' detail, in [0, 1]."""
    if not references:
        return image
    bins = np.digitize(np.stack([confidence for _, confidence in references]), BINS)
    combined = (bins * (len(BINS) + 1) ** np.arange(len(bins))[:, None, None]).sum(axis=0)
    result = image.copy()
    for value in np.unique(combined):
        here = combined == value
        matched = [i for i in range(len(bins)) if bins[i][here][0]]
        if not matched:
            continue
        detail = np.stack([(references[i][0][here] - image[here]).ravel() for i in matched], axis=1)
        best = np.linalg.lstsq(detail, (truth[here] - image[here]).ravel(), rcond=None)[0]
        result[here] += (detail @ best).reshape(-1, 3)
    return np.clip(result, 0.0, 1.0)


def warp_to_image(matcher: Matcher, image: Image, still: Image, scale: tuple[float, float]) -> Warped:
    """A reference at the pixels of the image that it matches.

    Args:
        scale: (rows, columns): size of the image divided by that of the LR frame.
    """
    pair = Pair(jnp.asarray(image)[None], jnp.asarray(still)[None])
    match = matcher.refine(pair, matcher.coarse(pair), scale)
    found = nearest(jnp.asarray(still)[None], match.warp)[0]
    return np.asarray(found[0]), np.asarray(match.confidence[0, ..., 0])


class LinearTransfer:
    """Linear transfer with the interface of an `Upscaler`; it must be given the ground truth.

    Attributes:
        truth: makes the true frames of the inputs, 8 bits, in order.
        choices, on_key_frame: as of an `Upscaler`; not used.
    """

    def __init__(self, backbone: Upscaler, matcher: Matcher):
        """
        Args:
            backbone: an upscaler without LRRF.
            matcher: how references are matched.
        """
        self.truth: Callable[[], Iterable[np.ndarray]] = tuple
        self.choices: dict[int, list[ReferenceChoice]] = {}
        self.on_key_frame: Any = None
        self._backbone, self._matcher = backbone, matcher
        self._scale = (backbone.out_size[0] / backbone.size[0], backbone.out_size[1] / backbone.size[1])

    def frames(
        self,
        frames: Iterable[Image],
        stills: Iterable[Still] = (),
        advance: Callable[[str], None] = lambda _: None,
    ) -> Iterator[Image]:
        """See `Upscaler.frames`."""
        images = [still.image for still in stills]
        for image, truth in zip(self._backbone.frames(frames, (), advance), self.truth(), strict=True):
            image = np.asarray(image)
            matches = []
            for still in images:
                matches.append(warp_to_image(self._matcher, image, still, self._scale))
                advance("transfer")
            yield transfer(image, as_float(truth), matches)

    def work(self, count: int, stills: Sequence[Still] = ()) -> dict[str, int]:
        """See `Upscaler.work`."""
        return {**self._backbone.work(count), "transfer": count * len(stills)}

    def costs(self) -> dict[str, float]:
        """See `Upscaler.costs`."""
        costs = self._backbone.costs()
        return {**costs, "transfer": max(costs.values())}
