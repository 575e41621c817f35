"""GMFlow's checkpoints (with refinement), with the names of the official repository."""

import jax
import jax.numpy as jnp

from ldip_jax.models.networks.gmflow import GMFlow
from ldip_jax.weights.network import Network, parameter_shapes
from ldip_jax.weights.rules import conv, dense, norm


def _all_parts(net: GMFlow, images: jax.Array) -> jax.Array:
    """Run each part once, where a call runs the transformer twice; it takes most of the time of tracing."""
    fine, _ = net.encode(images)
    fine = net.transformer(fine, (4, 4))
    flow = net.feature_flow_attn(fine, fine[..., :2], local=True)
    return net.upsampler_2(net.upsampler_0(jnp.concatenate([flow, fine], axis=-1)))


GMFLOW = Network(
    name="gmflow",
    title="GMFlow with refinement",
    signature=r"feature_flow_attn\.q_proj\.weight",
    config=lambda arrays: {},
    skeleton=lambda config: parameter_shapes(GMFlow(**config), (2, 32, 32, 3), method=_all_parts),
    rules=(
        *conv(r"(backbone\..+|upsampler\.\d)", r"\1"),
        *dense(r"(transformer\..+(?:_proj|merge|mlp\.\d)|feature_flow_attn\.[qk]_proj)", r"\1"),
        *norm(r"(transformer\..+norm\d)", r"\1"),
    ),
)
