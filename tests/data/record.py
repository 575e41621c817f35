"""A synthetic record whose warps can be checked by looking at pixels."""

import ml_dtypes
import numpy as np

from ldip_jax.data.records import Record


def random_record(rng, size=(16, 20), frames=5, keys=(1, 3), candidates=3, scale=4) -> Record:
    """Frames of noise. References are key-frames moved by a few pixels; warps say by how much."""
    h, w = size
    H, W = round(h * scale), round(w * scale)
    hr = rng.integers(0, 256, (frames, H, W, 3), np.uint8)
    shifts = rng.integers(-6, 7, (len(keys), candidates, 2))
    y, x = np.mgrid[:H, :W].astype(np.float32)
    grid = np.stack([x, y], axis=-1)
    warps = grid + shifts[:, :, None, None].astype(np.float32)
    references = [
        np.roll(hr[key], tuple(shift[::-1]), (0, 1))
        for key, row in zip(keys, shifts, strict=True)
        for shift in row
    ]
    inside = (warps >= 0).all(axis=-1) & (warps <= [W - 1, H - 1]).all(axis=-1)
    return Record(
        lr=rng.integers(0, 256, (frames, h, w, 3), np.uint8),
        hr=hr,
        features=rng.standard_normal((frames, h, w, 64)).astype(ml_dtypes.bfloat16),
        to_next=rng.standard_normal((frames, h, w, 2)).astype(np.float32),
        to_previous=rng.standard_normal((frames, h, w, 2)).astype(np.float32),
        key_frames=np.array(keys, np.int32),
        references=np.stack(references),
        candidates=np.arange(len(references), dtype=np.int32).reshape(len(keys), candidates),
        warps=warps,
        confidence=inside[..., None].astype(np.float16),
    )


def draw_reference(record: Record):
    """A function that draws one of the record's references, as if it were an image of another clip."""
    return lambda rng: record.references[int(rng.integers(len(record.references)))]
