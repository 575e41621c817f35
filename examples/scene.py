"""A synthetic clip for the examples: a camera that moves over a texture."""

import numpy as np


def moving_clip(count: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """LR frames and their ground truth.

    Returns:
        `count height width 3` float32 in [0, 1], and the same at four times the size.
    """
    rng = np.random.default_rng(0)
    size = (4 * height, 4 * width + 4 * count)
    fine = rng.uniform(size=(*size, 3))
    coarse = rng.uniform(size=(size[0] // 8 + 1, size[1] // 8 + 1, 3)).repeat(8, axis=0).repeat(8, axis=1)
    texture = (0.3 * fine + 0.7 * coarse[: size[0], : size[1]]).astype(np.float32)
    # The camera moves by one LR pixel from frame to frame.
    truth = np.stack([texture[:, 4 * i : 4 * i + 4 * width] for i in range(count)])
    return truth.reshape(count, height, 4, width, 4, 3).mean((2, 4)), truth


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """PSNR in dB, of values in [0, 1]."""
    return float(-10 * np.log10(np.mean((np.asarray(image) - truth) ** 2)))
