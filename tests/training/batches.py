"""Training batches of noise, exact records of synthetic clips, and the shapes of a batch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ldip_jax.data.clips import ClipSample
from ldip_jax.data.crop_spec import CropSpec
from ldip_jax.data.crops import Sample, draw_crop, stack
from ldip_jax.data.records import Record
from ldip_jax.models.ldip import LDIP
from tests.data.record import draw_reference, random_record
from tests.models.random_models import narrow_ldip


def training_ldip() -> tuple[LDIP, dict[str, Any]]:
    """`narrow_ldip` as a run trains it: references are extracted once, also in the program."""
    net, params = narrow_ldip()
    assert net.lrrf is not None
    return net.clone(lrrf=net.lrrf.clone(keep_features=True)), params


def noise_batch(rng, spec: CropSpec, samples=1, size=(16, 20)) -> Sample:
    """A batch of crops of synthetic records, with all slots kept."""
    frames = max(spec.target_frames, 5)
    drawn = []
    for _ in range(samples):
        record = random_record(rng, size, frames=frames, candidates=max(spec.max_references, 1))
        record = record._replace(
            features=(0.06 * record.features.astype(np.float32)).astype(record.features.dtype)
        )
        drawn.append(draw_crop(record, draw_reference(record), rng, spec))
    return jax.tree.map(jnp.asarray, stack(drawn, (spec.max_key_frames, spec.max_references)))


def exact_work(clip: ClipSample) -> Record:
    """The record of a synthetic clip without any network: no features, exact matches."""
    assert clip.flows is not None
    assert clip.warps is not None
    assert clip.confidence is not None
    span = slice(clip.first, clip.first + clip.count)
    return Record(
        lr=clip.lr[span],
        hr=clip.hr[span],
        features=np.zeros((clip.count, *clip.lr.shape[1:3], 1), np.float32),
        to_next=clip.flows[0],
        to_previous=clip.flows[1],
        key_frames=clip.key_frames,
        references=clip.hr if clip.references is None else clip.references,
        candidates=clip.candidates,
        warps=clip.warps,
        confidence=clip.confidence,
        lr_references=clip.lr if clip.damage or clip.references is not None else None,
    )


def abstract_batch(spec: CropSpec, scale: float, batch_size: int, channels: int = 64) -> Sample:
    """The shapes of a batch of crops, however large."""
    hr, lr = spec.sides(scale)
    b, t, k, n, r = (
        batch_size,
        spec.target_frames,
        spec.max_key_frames,
        spec.max_references,
        spec.reference_side,
    )
    shapes = Sample(
        lr=((b, t, lr, lr, 3), np.uint8),
        hr=((b, t, hr, hr, 3), np.uint8),
        features=((b, t, lr, lr, channels), jnp.bfloat16),
        to_next=((b, t, lr, lr, 2), np.float32),
        to_previous=((b, t, lr, lr, 2), np.float32),
        origin=((b, 2), np.float32),
        step=((b, 2), np.float32),
        key_frames=((b, k), np.int32),
        key_valid=((b, k), np.float32),
        images=((b, k, n, r, r, 3), np.uint8),
        sizes=((b, k, n, 2), np.int32),
        warps=((b, k, n, hr, hr, 2), np.float32),
        confidence=((b, k, n, hr, hr, 1), np.float32),
        valid=((b, k, n), np.float32),
        route_warps=((b, t, k, hr, hr, 2), np.float32) if spec.routes else None,
        route_confidence=((b, t, k, hr, hr, 1), np.float32) if spec.routes else None,
    )
    return Sample(*(entry and jax.ShapeDtypeStruct(*entry) for entry in shapes))
