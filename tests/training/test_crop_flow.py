"""At any scale, HRIP follows the flow of the crop, not that of the larger LR window stretched over it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.data.crop_spec import CropSpec
from ldip_jax.data.crops import draw_crop, stack
from ldip_jax.ops.resize import hr_flow
from ldip_jax.training.step import restored_images
from tests.data.record import draw_reference, random_record
from tests.models.shown import showing


def located(rng, spec, scale, margin=12) -> Any:
    """A record whose pixels encode their positions, in red and green, with noise as flows."""
    lr = spec.sides(scale)[1] + margin
    record = random_record(rng, (lr, lr + 5), frames=spec.target_frames, keys=(1,), candidates=1, scale=scale)
    y, x = np.mgrid[: record.hr.shape[1], : record.hr.shape[2]]
    # Blue holds what exceeds a byte.
    place = np.stack([x % 256, y % 256, x // 256 + 16 * (y // 256)], axis=-1).astype(np.uint8)
    return record._replace(hr=np.broadcast_to(place, record.hr.shape))


def corner(sample) -> tuple[int, int]:
    """(y, x) of the first HR pixel in its frame."""
    x, y, beyond = (int(value) for value in sample.hr[0, 0, 0])
    return y + 256 * (beyond // 16), x + 256 * (beyond % 16)


@pytest.mark.parametrize(
    ("scale", "side", "remat"), [(1.5, 64, True), (2.37, 64, False), (3.9, 64, False), (3.9, 256, False)]
)
def test_hrip_follows_the_cropped_flow_of_the_whole_frame(rng, scale, side, remat):
    spec = CropSpec(
        target_frames=3, hr_side=side, reference_side=32, window_jitter=4, max_key_frames=1, max_references=1
    )
    record = located(rng, spec, scale)
    samples = [draw_crop(record, draw_reference(record), rng, spec) for _ in range(2)]
    net = showing(remat_frames=remat)
    batch = jax.tree.map(jnp.asarray, stack(samples, (1, 1)))
    got = np.asarray(jax.jit(lambda batch: restored_images(net, {}, batch, propagate=True))(batch))

    size = record.hr.shape[1:3]
    to_next, to_previous = (np.asarray(hr_flow(jnp.asarray(flow), size)) for flow in record[3:5])
    expected = np.concatenate([to_previous, to_next[..., :1]], axis=-1)
    for sample, found in zip(samples, got, strict=True):
        y, x = corner(sample)
        cropped = expected[:, y : y + side, x : x + side]
        # Beyond the window's outermost pixels there is nothing to interpolate from.
        inside = []
        for origin, step, n in zip(sample.origin, sample.step, sample.lr.shape[1:3], strict=True):
            place = origin + step * np.arange(side)
            inside.append(np.flatnonzero((place >= 0) & (place <= n - 1)))
        assert min(map(len, inside)) > side - 6
        pixels = np.ix_(*inside)
        # The crop's last frame has no next one, and its first one has no previous one.
        for frame, channels in ((0, [2]), (1, [0, 1, 2]), (2, [0, 1])):
            for c in channels:
                np.testing.assert_allclose(
                    found[frame, ..., c][pixels], cropped[frame, ..., c][pixels], atol=1e-3
                )
