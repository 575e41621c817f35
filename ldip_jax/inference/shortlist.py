"""Which of many stills a key-frame is matched with.

A match takes seconds, and a wrong still now and then passes for a right one: of a hundred, some will. So all
are first compared by a cheap likeness, and a still that does not look like the frame must match more of it
than the others. More than `MATCH_ALL_UP_TO` stills are matched in the order of their likeness, until those
that remain are not worth it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array

from ldip_jax.inference.reference_images import Still
from ldip_jax.matching.matcher import Pair, Ranker
from ldip_jax.matching.retrieval import LIKELY
from ldip_jax.matching.view import find_view

# No more stills than this are all matched.
MATCH_ALL_UP_TO = 4
# Most stills that are matched with a key-frame.
MAX_MATCHED = 8
# Stills that do not look like the frame are tried until this many have failed: the first number if no still
# is used yet, else the second.
FAILED_FIRST, FAILED_LATER = 3, 1
# The share of the key-frame that such a still must match.
CLEAR_SHARE = 0.15
# A still that shows the scene much smaller or larger looks different, but its view is found with at least
# this correlation.
SURE_VIEW = 0.7


class RankedStill(NamedTuple):
    """A still, and whether it looks like the key-frame; None: it is matched without a comparison."""

    still: Still
    likely: bool | None


def rank_stills(ranker: Ranker, anchor: Array, stills: Sequence[Still]) -> list[RankedStill]:
    """The stills, the most promising first.

    With few stills, another view is not searched for: if a still shows one, that is found when it is matched.

    Args:
        anchor: the backbone's image of the key-frame, `1 H W 3`.
    """
    frame = np.asarray(anchor)[0]
    few = len(stills) <= MATCH_ALL_UP_TO
    rows = []
    for still in stills:
        likeness = ranker.likeness(Pair(anchor, still.image[None], name=still.name))
        view = None if few or likeness > LIKELY else find_view(frame, still.image)
        likely = likeness > LIKELY or (view is not None and view.score > SURE_VIEW)
        rows.append((likely, likeness, RankedStill(still, likely)))
    # Stills that are equally alike keep their order.
    return [row[-1] for row in sorted(rows, key=lambda row: row[:2], reverse=True)]


class MatchBudget:
    """Decides, still by still in this order, which are matched with one key-frame."""

    def __init__(self, count: int):
        """`count`: how many stills there are to choose from."""
        self._match_all = count <= MATCH_ALL_UP_TO
        self._matched = self._used = self._failed = 0

    def allows(self, likely: bool) -> bool:
        """Whether to match the next still."""
        most = FAILED_LATER if self._used else FAILED_FIRST
        if self._match_all:
            return True
        return self._matched < MAX_MATCHED and (likely or self._failed < most)

    def add(self, likely: bool, used: bool) -> None:
        """A still was matched, and is used or not."""
        self._matched += 1
        self._used += used
        self._failed += not likely and not used
