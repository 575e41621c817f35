"""Stills, the parts of them that may be used, and the key-frames that each still is offered to."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ldip_jax.matching.matcher import Match, Pair, rescale
from ldip_jax.matching.view import Reframed, View, reframe
from ldip_jax.ops.warp import bilinear


@dataclass(frozen=True)
class Still:
    """A reference image that the user supplies.

    Attributes:
        name: unique among the stills.
        image: RGB in [0, 1], any size.
        moment: the frame of the clip that it belongs to, counted from 0; None: no particular frame.
        mask: as large as the image, 1 where it may be used and 0 elsewhere; None: it may be used everywhere.
    """

    name: str
    image: Float[np.ndarray, "h w 3"]
    moment: int | None = None
    mask: Float[np.ndarray, "h w"] | None = None


def stills_from(stills: Sequence[Still], first: int) -> list[Still]:
    """The stills for the part of a clip that begins at frame `first`, where moments are counted from."""
    return [s if s.moment is None else replace(s, moment=s.moment - first) for s in stills]


@dataclass(frozen=True)
class UsablePart:
    """The part of a matched image that may be used.

    Attributes:
        view: where the image shows the still, if the still was cropped to another view.
        mask: of any size, 1 where the image may be used and 0 elsewhere; None: it may be used everywhere.
    """

    view: Reframed | None = None
    mask: Float[np.ndarray, "h w"] | None = None

    def limit(self, match: Match, pair: Pair) -> Match:
        """The pair's match with confidence 0 outside this part; the reference may have been reduced since."""

        def places(size: tuple[int, int]):
            return rescale(match.warp, jnp.array(size[::-1], jnp.float32) / pair.reference_size)

        confidence = match.confidence
        if self.view is not None:
            confidence = confidence * self.view.holds(places(self.view.image.shape[:2]))
        if self.mask is not None:
            mask = jnp.asarray(self.mask, jnp.float32)[None, ..., None]
            confidence = confidence * bilinear(mask, places(self.mask.shape[:2]), padding="border")
        return match._replace(confidence=confidence)


def whole_part(still: Still) -> UsablePart:
    """The part of a still that may be used, if the still is not cropped."""
    return UsablePart(mask=still.mask)


def cropped_part(
    still: Still, view: View, frame: tuple[int, int]
) -> tuple[Float[np.ndarray, "h w 3"], UsablePart]:
    """A still cropped to a view, and the part of that which may be used.

    Args:
        frame: (height, width) of the frame that shows the view.
    """
    shown = reframe(still.image, view, frame)
    if still.mask is None:
        return shown.image, UsablePart(shown)
    mask = reframe(np.repeat(still.mask[..., None], 3, axis=-1), view, frame)
    return shown.image, UsablePart(shown, mask.image[..., 0])


def offered_stills(key_frame: int, stills: Sequence[Still], cuts: Collection[int]) -> list[Still]:
    """The stills that a key-frame is matched with: first those with a moment, from the nearest on.

    A still with a moment is offered to the key-frames of the same shot that have no other such still between
    them and its moment. A still without a moment is offered to all key-frames.

    Args:
        key_frame: place of the key-frame in the clip.
        cuts: places of the first frames of new shots, as far as they are known.
    """
    moments = {still.moment for still in stills if still.moment is not None}
    near = [m for m in moments if not any(min(key_frame, m) < cut <= max(key_frame, m) for cut in cuts)]
    before, after = [m for m in near if m <= key_frame], [m for m in near if m >= key_frame]
    sides = {max(before, default=None), min(after, default=None)}
    bound = [still for still in stills if still.moment is not None and still.moment in sides]
    bound.sort(key=lambda still: abs(still.moment - key_frame) if still.moment is not None else 0)
    return bound + [still for still in stills if still.moment is None]


def bound_moments(stills: Sequence[Still], places: range) -> set[int]:
    """The moments of stills that lie among these places of the clip; they become key-frames."""
    return {still.moment for still in stills if still.moment is not None and still.moment in places}
