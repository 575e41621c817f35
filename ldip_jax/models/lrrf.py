"""LRRF, the trainable module: Ref-Align, Ref-Fusion and HRIP. 2,098,240 parameters."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ldip_jax.models.hrip import HRIP
from ldip_jax.models.layers import repeated
from ldip_jax.models.ref_align import RefAlign, Reference
from ldip_jax.models.ref_fusion import FusionState, RefFusion


class LRRF(nn.Module):
    """Long-range reference fusion on a frozen backbone's HR features.

    Its residuals start at exactly 0: without training, the features stay the same, bit for bit.

    Attributes:
        feature_scale: standard deviation of the backbone's HR features. Features are divided by it on the
            way in and residuals are multiplied by it on the way out; without this, training collapses.
        attention: "ica" (the paper), or "cross" for plain cross attention.
        gate: "none" (the paper) or "max_confidence"; see `RefFusion`.
        band_pixels: pixels per band of rows; None for the whole frame at once.
        keep_features: extract each reference once in `refine` and keep the features of all of them, for
            training crops. Otherwise each layer extracts again, and memory does not grow with their number.
    """

    feature_scale: float = 1.0
    attention: str = "ica"
    gate: str = "none"
    band_pixels: int | None = None
    keep_features: bool = False

    def setup(self):
        self.ref_align = RefAlign(band_pixels=self.band_pixels)
        self.ref_fusion = RefFusion(attention=self.attention, gate=self.gate, band_pixels=self.band_pixels)
        self.hrip = HRIP(band_pixels=self.band_pixels)

    @property
    def layers(self) -> int:
        """Number of layers of Ref-Fusion; each one uses every reference."""
        return RefFusion.depth

    def query(self, hr: Float[Array, "b H W 64"]) -> Float[Array, "b H W e"]:
        """A key-frame's query; the first step of `refine`."""
        return self.ref_fusion.query(hr / self.feature_scale)

    def start(self, query: Float[Array, "b H W e"]) -> FusionState:
        """The state of a layer before its first reference."""
        return self.ref_fusion.start(query)

    def absorb(
        self, layer: int, query: Float[Array, "b H W e"], state: FusionState, reference: Reference
    ) -> FusionState:
        """Extract and align one reference, and add it to a layer's state."""
        features = self.extract(reference, query.dtype)
        return self.ref_fusion.absorb(layer, query, state, features, reference)

    def extract(self, reference: Reference, dtype: jnp.dtype) -> Float[Array, "b h w 64"]:
        """A reference's features at its own resolution."""
        return self.ref_align(reference.image.astype(dtype), reference.size)

    def fuse(self, layer: int, query: Float[Array, "b H W e"], state: FusionState) -> Float[Array, "b H W e"]:
        """The query after the layer."""
        return self.ref_fusion.fuse(layer, query, state.attended)

    def finish(
        self,
        hr: Float[Array, "b H W 64"],
        query: Float[Array, "b H W e"],
        best: Float[Array, "b H W 1"],
        any_valid: Float[Array, "b"],
    ) -> Float[Array, "b H W 64"]:
        """The refined features; `hr` itself where no reference is valid.

        Args:
            hr: the key-frame's features.
            query: after the last layer.
            best: highest confidence among a pixel's references, from the last layer's state.
            any_valid: 1 where the key-frame has a reference, else 0.
        """
        return hr + self.feature_scale * self.ref_fusion.residual(query, best, any_valid)

    def refine(self, hr: Float[Array, "b H W 64"], references: Reference) -> Float[Array, "b H W 64"]:
        """Refined features of key-frames, each from its stack of references (axis 1); empty slots are masked.

        References are processed one at a time: unless `keep_features`, memory for them is only their images
        and warps.
        """
        query = self.query(hr)
        count = references.valid.shape[1]

        def pick(index: Array) -> Reference:
            # By index, because a scan over the stack itself would copy it first.
            return jax.tree.map(
                lambda x: jax.lax.dynamic_index_in_dim(x, index, axis=1, keepdims=False), references
            )

        def over_references(step, start, *stacks):
            return repeated(self, step)(self, start, (jnp.arange(count), *stacks))

        features = ()
        if self.keep_features:

            def extract(module, _, inputs):
                return None, module.extract(pick(inputs[0]), query.dtype)

            features = (over_references(extract, None)[1],)
        for layer in range(self.layers):

            def step(module, state, inputs, layer=layer, query=query):
                index, *features = inputs
                reference = pick(index)
                if features:
                    state = module.ref_fusion.absorb(layer, query, state, features[0], reference)
                else:
                    state = module.absorb(layer, query, state, reference)
                return state, None

            state, _ = over_references(step, self.start(query), *features)
            query = self.fuse(layer, query, state)
        return self.finish(hr, query, state.best, jnp.max(references.valid, axis=1))

    def propagate(
        self,
        reverse: bool,
        current: Float[Array, "b H W 64"],
        previous: Float[Array, "b H W 64"],
        flow: Float[Array, "b H W 2"],
    ) -> Float[Array, "b H W 64"]:
        """One frame of HRIP's backward (`reverse`) or forward pass: the current frame's refined features.

        Args:
            reverse: which pass.
            current: the frame's features; in the forward pass, the backward pass's output.
            previous: refined features of the previous frame in this pass; zeros at the first frame.
            flow: from this frame to the previous one, (x, y) in HR pixels; zeros at the first frame.
        """
        scale = self.feature_scale
        return current + scale * self.hrip.step(reverse, current / scale, previous / scale, flow)

    def __call__(self, hr: Float[Array, "b H W 64"], references: Reference) -> Float[Array, "b H W 64"]:
        """Ref-Fusion and both passes on a clip of one key-frame. Uses every parameter, for `init`."""
        hr = self.refine(hr, references)
        still = jnp.zeros((*hr.shape[:-1], 2), jnp.float32)
        for reverse in (True, False):
            hr = self.propagate(reverse, hr, jnp.zeros_like(hr), still)
        return hr


def init_lrrf(lrrf: LRRF, key: PRNGKeyArray) -> Mapping[str, Any]:
    """Untrained parameters; their shapes do not depend on the image size. Works under `jax.eval_shape`."""
    one = jnp.zeros((1, 1, 8, 8, 3))
    references = Reference(
        one, jnp.full((1, 1, 2), 8, jnp.int32), one[..., :2], one[..., :1], jnp.ones((1, 1))
    )
    return lrrf.init(key, jnp.zeros((1, 8, 8, 64)), references)["params"]
