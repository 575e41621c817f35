"""GMFlow's checkpoints (with refinement), with the names of the official repository."""

from ldip_jax.models.networks.gmflow import GMFlow
from ldip_jax.weights.network import Network, parameter_shapes
from ldip_jax.weights.rules import conv, dense, norm

GMFLOW = Network(
    name="gmflow",
    title="GMFlow with refinement",
    signature=r"feature_flow_attn\.q_proj\.weight",
    config=lambda arrays: {},
    skeleton=lambda config: parameter_shapes(GMFlow(**config), (1, 64, 64, 3), (1, 64, 64, 3)),
    rules=(
        *conv(r"(backbone\..+|upsampler\.\d)", r"\1"),
        *dense(r"(transformer\..+(?:_proj|merge|mlp\.\d)|feature_flow_attn\.[qk]_proj)", r"\1"),
        *norm(r"(transformer\..+norm\d)", r"\1"),
    ),
)
