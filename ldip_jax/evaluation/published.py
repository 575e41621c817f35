"""Published figures from papers and repositories, shown beside measured ones. None of them was run here."""

from collections.abc import Sequence
from typing import NamedTuple

from ldip_jax.evaluation.protocols import Scale


class Figure(NamedTuple):
    """A published average over all clips of a data set; a score that is not given is None."""

    method: str
    psnr: float
    ssim: float | None
    lpips: float | None
    source: str


_MMAGIC = "mmagic's released weights, by mmagic"
_PAPERS = "its paper"

# By data set and degradation, x4: basicsr-rgb for REDS4, basicsr-y for the others.
_X4 = {
    ("reds4", "bi"): (
        ("basicvsr-reds4", 31.4170, 0.8909, _MMAGIC),
        ("basicvsr-vimeo-bi", 30.3128, 0.8660, _MMAGIC),
        ("basicvsr-vimeo-bd", 29.0376, 0.8481, _MMAGIC),
        ("basicvsrpp-reds4", 32.3855, 0.9069, _MMAGIC),
        ("RVRT", 32.75, 0.9113, _PAPERS),
        ("IART", 32.90, 0.9138, _PAPERS),
    ),
    ("vimeo90k-t", "bi"): (
        ("basicvsr-reds4", 36.2848, 0.9395, _MMAGIC),
        ("basicvsr-vimeo-bi", 37.2026, 0.9434, _MMAGIC),
        ("basicvsr-vimeo-bd", 34.6427, 0.9335, _MMAGIC),
        ("basicvsrpp-vimeo-bi", 37.7864, 0.9500, _MMAGIC),
        ("IART", 38.14, 0.9528, _PAPERS),
    ),
    ("vid4", "bi"): (
        ("basicvsr-reds4", 27.2694, 0.8318, _MMAGIC),
        ("basicvsr-vimeo-bi", 27.2755, 0.8248, _MMAGIC),
        ("basicvsr-vimeo-bd", 26.2708, 0.8022, _MMAGIC),
        ("basicvsrpp-reds4", 27.7674, 0.8444, _MMAGIC),
        ("basicvsrpp-vimeo-bi", 27.7882, 0.8401, _MMAGIC),
        ("IART", 28.26, 0.8517, _PAPERS),
    ),
    ("udm10", "bd"): (
        ("basicvsr-reds4", 33.4478, 0.9306, _MMAGIC),
        ("basicvsr-vimeo-bi", 34.5554, 0.9451, _MMAGIC),
        ("basicvsr-vimeo-bd", 39.9953, 0.9695, _MMAGIC),
        ("basicvsrpp-vimeo-bd", 40.7216, 0.9722, _MMAGIC),
        ("IART", 41.15, 0.9750, _PAPERS),
    ),
    ("vimeo90k-t", "bd"): (
        ("basicvsr-reds4", 34.4700, 0.9286, _MMAGIC),
        ("basicvsr-vimeo-bi", 34.8097, 0.9316, _MMAGIC),
        ("basicvsr-vimeo-bd", 37.5501, 0.9499, _MMAGIC),
        ("basicvsrpp-vimeo-bd", 38.2054, 0.9550, _MMAGIC),
        ("IART", 38.62, 0.9579, _PAPERS),
    ),
    ("vid4", "bd"): (
        ("basicvsr-reds4", 24.4541, 0.7455, _MMAGIC),
        ("basicvsr-vimeo-bi", 25.0517, 0.7636, _MMAGIC),
        ("basicvsr-vimeo-bd", 27.9791, 0.8556, _MMAGIC),
        ("basicvsrpp-vimeo-bd", 29.0400, 0.8753, _MMAGIC),
        ("IART", 29.68, 0.8884, _PAPERS),
    ),
}

_SAVSR = {
    ("vid4", (1.5, 1.5)): (38.23, 0.9829),
    ("vid4", (2.0, 2.0)): (34.67, 0.9599),
    ("vid4", (2.5, 2.5)): (32.31, 0.9369),
    ("vid4", (3.0, 3.0)): (30.33, 0.9035),
    ("vid4", (3.5, 3.5)): (28.44, 0.8607),
    ("vid4", (4.0, 4.0)): (27.17, 0.8184),
    ("vid4", (1.5, 4.0)): (30.45, 0.9027),
    ("vid4", (3.5, 1.5)): (30.50, 0.9173),
    ("udm10", (2.0, 2.0)): (46.23, 0.9927),
    ("udm10", (3.0, 3.0)): (42.15, 0.9801),
    ("udm10", (4.0, 4.0)): (38.88, 0.9619),
}

_TABLE5 = "Table 5 of the paper: REDS, BasicVSR++"
# The paper does not say whether its PSNR is that of RGB; on REDS it usually is.
TABLE5 = (
    Figure("MRefSR (quoted, not re-run)", 30.98, None, 0.172, _TABLE5),
    Figure("LDIP", 32.55, None, 0.102, _TABLE5),
    Figure("LDIP w/o ref", 32.03, None, 0.111, _TABLE5),
    Figure("LDIP w/o ICA", 32.54, None, 0.107, _TABLE5),
)


def published(dataset: str, protocol: str, scale: Scale) -> Sequence[Figure]:
    """Published figures for this data set, protocol and scale; for the user's own clips, only Table 5."""
    if protocol == "table5":
        return TABLE5
    if protocol == "savsr" and (dataset, scale) in _SAVSR:
        psnr, ssim = _SAVSR[dataset, scale]
        return [Figure("SAVSR", psnr, ssim, None, "its repository, re-trained")]
    if protocol.removesuffix("-mirror") in ("bi-x4", "bd-x4") and scale == (4.0, 4.0):
        rows = _X4.get((dataset, protocol[:2]), ())
        return [Figure(method, psnr, ssim, None, source) for method, psnr, ssim, source in rows]
    return []
