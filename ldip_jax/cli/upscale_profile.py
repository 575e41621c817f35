"""The file of `ldip upscale --profile`: seconds per part, and what they were measured on."""

import json
import os
import platform
from importlib import metadata
from pathlib import Path

import jax

from ldip_jax import __version__
from ldip_jax.atomic import atomic_open
from ldip_jax.inference.mrefsr import MRefSRUpscaler
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.profiling import Profile


def write_profile(
    path: Path, profile: Profile, upscaler: Upscaler | MRefSRUpscaler, frame_count: int
) -> None:
    """Write a profile as JSON.

    Args:
        frame_count: how many frames were made.

    Raises:
        InputError: the file cannot be written.
    """
    choices = [choice for key in upscaler.choices.values() for choice in key]
    made = {
        "frames": frame_count,
        "input": list(upscaler.size),
        "output": list(upscaler.out_size),
        "model": upscaler.model.title,
        "key_frames": len(upscaler.choices),
        "references_matched": len(choices),
        "references_used": sum(choice.used for choice in choices),
        **profile.report(),
        "machine": {
            "device": jax.devices()[0].device_kind,
            "processor": platform.processor() or platform.machine(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "ldip_jax": __version__,
            "jax": metadata.version("jax"),
        },
    }
    with atomic_open(path) as file:
        file.write((json.dumps(made, indent=2) + "\n").encode())
