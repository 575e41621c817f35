"""What pieces of work cost, relative to each other."""

from ldip_jax.inference.streaming import TileLayout


def piece_costs(
    size: tuple[int, int], hr_size: tuple[int, int], step_cost: float, layout: TileLayout
) -> dict[str, float]:
    """Rough cost of a piece of work of each kind, in 10^9 multiply-adds; see `Upscaler.work`.

    Args:
        size, hr_size: (height, width) of the frames and of HR features.
        step_cost: multiply-adds per pixel of a step of the backbone's recurrence.
        layout: the tiles; a piece of some kinds is one tile.
    """
    lr, hr_pixels = size[0] * size[1] / 1e9, hr_size[0] * hr_size[1] / 1e9
    head = lr * 740e3 + hr_pixels * 39e3
    matching = min(1.0, 640 / max(hr_size)) ** 2 * hr_pixels
    # Of these, each piece is one tile.
    step, passed = (x.overhead / x.count for x in (layout.recurrence, layout.detail))
    return {
        "features": lr * step_cost * step,
        "decode": head,
        "backward": (head + hr_pixels * 900e3) * passed,
        "forward": (head + hr_pixels * 900e3) * passed,
        # Two runs of the flow network, and all channels sampled twice, bicubically.
        "carry": head + hr_pixels * 2 * (320e3 + 40e3),
        # The matching network, the refinement, and Ref-Fusion of one reference.
        "match": matching * 4.5e6 + hr_pixels * (320e3 + 500e3),
        "fuse": hr_pixels * 1.2e6,
    }
