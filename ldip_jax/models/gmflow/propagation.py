"""Flow where matching is unsure: taken from pixels that look alike, by attention of the features."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from ldip_jax.models.gmflow.matching import local_similarity, neighbourhood


class Propagation(nn.Module):
    """Attention from each pixel to the whole map, or to its 3x3 neighbours if `local`; values are flows."""

    @nn.compact
    def __call__(
        self, features: Float[Array, "b h w c"], flow: Float[Array, "b h w 2"], local: bool
    ) -> Float[Array, "b h w 2"]:
        c = features.shape[-1]
        query = nn.Dense(c, name="q_proj")(features)
        project_key = nn.Dense(c, name="k_proj")
        if local:
            # Places outside of the map take part, with similarity and flow 0.
            weights = jax.nn.softmax(local_similarity(query, project_key(features), 1))
            return jnp.einsum("bhwk,bhwkd->bhwd", weights, neighbourhood(flow, 1))
        # The published network was trained with the key taken from the query; its weights need that.
        key = project_key(query)
        query, key, values = (rearrange(x, "b h w c -> b (h w) c") for x in (query, key, flow))
        weights = jax.nn.softmax(jnp.einsum("bpc,bqc->bpq", query, key) / math.sqrt(c))
        return jnp.einsum("bpq,bqd->bpd", weights, values).reshape(flow.shape)
