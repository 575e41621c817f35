"""LDIP as a ComfyUI node.

Copy this folder to `ComfyUI/custom_nodes/ldip_jax` and install its `requirements.txt` into ComfyUI's Python.
"""

import os
from functools import lru_cache
from typing import Any

import numpy as np
import torch

# ComfyUI's own models need the GPU's memory too. This must be set before JAX starts.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

from ldip_jax import Upscaler

try:
    from comfy.utils import ProgressBar  # pyright: ignore[reportMissingImports]
except ImportError:
    ProgressBar = None

BACKBONES = ["basicvsr-reds4", "basicvsr-vimeo-bi", "basicvsr-vimeo-bd", "basicvsrpp-reds4"]


@lru_cache(maxsize=1)
def _upscaler(scale: float, backbone: str, lrrf: str, key_stride: int) -> Upscaler:
    """The upscaler of the last run; weights stay loaded while the settings are the same."""
    return Upscaler(backbone, lrrf, scale=scale, key_stride=key_stride)


def _array(images: torch.Tensor) -> np.ndarray:
    """`b h w 3` float32 in [0, 1]; alpha is dropped."""
    return images[..., :3].clamp(0.0, 1.0).cpu().numpy().astype(np.float32)


class LDIPUpscale:
    """Upscales consecutive frames of a video, with detail from reference images of the scene."""

    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("images",)
    FUNCTION = "upscale"
    CATEGORY = "image/upscaling"
    DESCRIPTION = (
        "Upscales the frames of a video together. Detail of the reference images, sharp stills of the same"
        " scene, is transferred to every frame."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802, the name that ComfyUI calls
        """The node's inputs, as ComfyUI reads them."""
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "Frames of one clip, in order."}),
                "scale": ("FLOAT", {"default": 4.0, "min": 1.0, "max": 8.0, "step": 0.05}),
                "backbone": (BACKBONES, {"tooltip": "Weights are fetched on first use."}),
                "lrrf": (["default", "none"], {"tooltip": "none: only the backbone, without references."}),
                "key_stride": ("INT", {"default": 8, "min": 1, "max": 64}),
            },
            "optional": {
                "references": (
                    "IMAGE",
                    {"tooltip": "Sharp stills of the scene. All have one size in a batch."},
                ),
            },
        }

    def upscale(
        self,
        images: torch.Tensor,
        scale: float,
        backbone: str,
        lrrf: str,
        key_stride: int,
        references: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor]:
        """`b h w c` float32 in [0, 1] to `b H W 3`."""
        frames = _array(images)
        stills = [] if references is None else list(_array(references))
        upscaled = _upscaler(scale, backbone, lrrf, key_stride).seekable(
            frames.__getitem__, len(frames), frames.shape[1:3], stills, kept=2
        )
        bar = ProgressBar(len(frames)) if ProgressBar else None
        out = torch.empty((len(frames), *upscaled.size, 3), dtype=torch.float32)
        for number in range(len(frames)):
            out[number] = torch.from_numpy(np.array(upscaled[number]))
            if bar:
                # This also ends the run if the user cancels it.
                bar.update(1)
        return (out,)


NODE_CLASS_MAPPINGS = {"LDIPUpscale": LDIPUpscale}
NODE_DISPLAY_NAME_MAPPINGS = {"LDIPUpscale": "LDIP video upscale"}
