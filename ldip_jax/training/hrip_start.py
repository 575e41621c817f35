"""An initialisation of HRIP that moves features part of the way towards a previous frame with more detail.

Random layers first have to learn that what matters is the difference between the warped previous features and
the current ones. That takes thousands of steps. This initialisation computes the difference in the first
convolution, keeps the Swin blocks quiet at first, and passes on a tenth of the difference at the end. What is
left to learn is when to trust it.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ldip_jax.errors import InputError

# Factor for the random part of the first convolution; the offset that keeps the last norm from amplifying
# small differences; the last norm's scale; factor for the Swin blocks' outputs; the share that is passed on.
NOISE, OFFSET, NORM_SCALE, QUIET, SHARE = 0.3, 0.7, 2.0, 0.1, 0.1


def is_untrained(hrip: Mapping[str, Any]) -> bool:
    """Whether HRIP's last layers are zero, as they are before the first step."""
    return not any(np.any(cell["conv_last"]["kernel"]) for cell in hrip.values())


def difference_start(hrip: Mapping[str, Any]) -> dict[str, Any]:
    """HRIP's parameters with this initialisation, from random ones.

    Raises:
        InputError: HRIP is trained already.
    """
    if not is_untrained(hrip):
        raise InputError("config.hrip_start=difference: HRIP is trained already; leave it at plain")
    return {name: _cell(jax.tree.map(np.array, dict(cell))) for name, cell in hrip.items()}


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    kernel, middle = NOISE * cell["conv_in"]["kernel"], cell["conv_in"]["kernel"].shape[0] // 2
    channel = np.arange(kernel.shape[-1])
    sign = np.where(channel % 2, 1.0, -1.0).astype(np.float32)
    # The input channels are the current features, then the previous ones.
    kernel[middle, middle, channel, channel] -= 1.0
    kernel[middle, middle, len(channel) + channel, channel] += 1.0
    cell["conv_in"] = {"kernel": kernel, "bias": OFFSET * sign}
    for block in cell["swin"].values():
        for layer in (block["attn"]["proj"], block["fc2"]):
            layer["kernel"] *= QUIET
    cell["norm"]["scale"][:] = NORM_SCALE
    cell["conv_last"]["kernel"][middle, middle, channel, channel] = SHARE
    # The norm scales the offset to about 1.
    cell["conv_last"]["bias"] = -0.9 * SHARE * NORM_SCALE * sign
    return cell
