"""Synthetic pictures with enough structure to be matched."""

import numpy as np


def blocks(seed: int, height: int, width: int, count: int = 250) -> np.ndarray:
    """Rotated rectangles of random colours on top of each other, with noise; `height width 3`, float32."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    image = np.full((height, width, 3), 0.5, np.float32)
    longest = max(height, width)
    for _ in range(count):
        centre_y, centre_x = rng.uniform(0.0, (height, width))
        half_a, half_b = rng.uniform(0.015, 0.125, 2) * longest
        cos, sin = np.cos(angle := rng.uniform(0.0, np.pi)), np.sin(angle)
        along = (x - centre_x) * cos + (y - centre_y) * sin
        across = (y - centre_y) * cos - (x - centre_x) * sin
        # Edges are antialiased over one pixel.
        cover = np.clip(half_a - abs(along) + 0.5, 0.0, 1.0) * np.clip(half_b - abs(across) + 0.5, 0.0, 1.0)
        image += cover[..., None] * (rng.uniform(0.0, 1.0, 3) - image)
    return np.clip(image + rng.normal(0.0, 0.02, image.shape), 0.0, 1.0).astype(np.float32)
