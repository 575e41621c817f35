"""The model's stages, one by one, for research.

python examples/features_and_stages.py
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flags import parser
from scene import moving_clip

import ldip_jax


def main(argv: Sequence[str] | None = None) -> None:
    args = parser(__doc__).parse_args(argv)
    clip, truth = moving_clip(args.frames, *args.size)
    model, params = ldip_jax.load_pretrained(args.backbone, args.lrrf)
    variables, frames = {"params": params}, jnp.asarray(clip)[None]
    apply = jax.jit(model.apply, static_argnames="method")

    features = apply(variables, frames, method="features")
    print(f"LR features of all frames:     {features.shape}")
    hr = apply(variables, features[:, 0], method="upscale")
    print(f"HR features of the first one:  {hr.shape}")

    # References that match the first frame, and the features that they refine.
    keys = ldip_jax.match_references(
        model, params, clip, [truth[0]], key_frames=[0], matcher="flow", ref_threshold=0.0
    )
    refined = apply(variables, hr[:, None], keys, method="refine")[:, 0]
    print(f"changed by Ref-Fusion:         {float(jnp.abs(refined - hr).max()):.3g} at most")
    image = apply(variables, refined, frames[:, 0], method="decode")
    print(f"image:                         {image.shape}")


if __name__ == "__main__":
    main()
