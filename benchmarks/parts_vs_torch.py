"""Time of the networks around the backbone, here and in PyTorch: GMFlow, SPyNet and LRRF.

    pip install torch
    python benchmarks/parts_vs_torch.py
    python benchmarks/parts_vs_torch.py --only lrrf --size 64x64

Weights are random, with a fixed seed, and the same on both sides; so are inputs and threads. The table is
that of `backbone_vs_torch.py`, with seconds of:

    gmflow   the flow of two images of 512x288, a size at which it often runs, in both directions
    spynet   the flow of two pairs of frames of --size
    fusion   Ref-Align and Ref-Fusion of a key-frame with two references at four times --size
    lrrf     the same, and a backward and a forward step of HRIP
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.backbone_vs_torch import prepare, scene, show_heads, show_row, show_versions

PARTS = ("gmflow", "spynet", "fusion", "lrrf")
MATCHING = (288, 512)
REFERENCES = 2


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=PARTS, default=PARTS, help="(default: all)")
    add("--size", default="180x144", metavar="WIDTHxHEIGHT", help="of LR frames (default: 180x144)")
    add("--rounds", type=int, default=7, help="measured rounds (default: 7)")
    add("--threads", type=int, help="cores for both (Linux; default: all)")
    return parser.parse_args()


def flow_network(name: str) -> dict[str, Callable]:
    """Functions of images (t h w 3): flows of the pairs of neighbours; of GMFlow, in both directions."""
    import jax
    import numpy as np
    import torch

    from ldip_jax.matching.gmflow import gmflow_features, gmflow_flows
    from ldip_jax.models.networks.spynet import SPyNet
    from ldip_jax.weights.load import load_weights
    from tests.parity.torch_gmflow import GMFlow as GMFlowTwin
    from tests.parity.torch_twins import SPyNet as SPyNetTwin

    torch.manual_seed(0)
    twin = (GMFlowTwin() if name == "gmflow" else SPyNetTwin()).eval().requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(twin.state_dict(), Path(folder) / "random.pth")
        params = jax.device_put(load_weights(Path(folder) / "random.pth", network=name).params)
    twin = twin.to(memory_format=torch.channels_last)
    # As in `ldip upscale`: each image is encoded once, and flow is found for one pair at a time.
    encode, compare = jax.jit(gmflow_features), jax.jit(gmflow_flows)
    spynet = jax.jit(SPyNet().apply)

    def in_jax(images):
        if name == "gmflow":
            encoded = [encode(params, image[None]) for image in images]
            return np.concatenate(compare(params, *encoded))
        pairs = zip(images[:-1, None], images[1:, None], strict=True)
        return np.concatenate([spynet({"params": params}, *pair) for pair in pairs])

    @torch.no_grad()
    def in_torch(images):
        maps = torch.tensor(images).permute(0, 3, 1, 2)
        flows = twin(maps[:-1], maps[1:])
        flows = torch.cat(flows) if name == "gmflow" else flows
        return flows.permute(0, 2, 3, 1).numpy()

    return {"jax": in_jax, "torch": in_torch}


def key_frame(height: int, width: int) -> tuple[Any, Any, Any]:
    """HR features, references and flows of a clip of one frame."""
    import numpy as np

    from ldip_jax.models.ldip import KeyFrames
    from ldip_jax.models.networks.backbone import Flows
    from ldip_jax.models.ref_align import Reference

    rng, h, w = np.random.default_rng(0), 4 * height, 4 * width
    stack = (1, 1, REFERENCES)
    pixels = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1)
    references = Reference(
        rng.random((*stack, h, w, 3), dtype=np.float32),
        np.broadcast_to(np.array([h, w], np.int32), (*stack, 2)),
        (pixels + 3 * rng.standard_normal((*stack, h, w, 2))).astype(np.float32),
        rng.random((*stack, h, w, 1), dtype=np.float32),
        np.ones(stack, np.float32),
    )
    hr = 0.5 * rng.standard_normal((1, 1, h, w, 64), dtype=np.float32)
    flows = Flows(*rng.standard_normal((2, 1, 1, height, width, 2), dtype=np.float32))
    return hr, KeyFrames(np.zeros((1, 1), np.int32), np.ones((1, 1), np.float32), references), flows


def lrrf(*, propagates: bool) -> dict[str, Callable]:
    """Functions of a key-frame: its refined features."""
    import jax
    import numpy as np
    import torch

    from ldip_jax.inference.engine import refine
    from ldip_jax.inference.model import BAND_PIXELS
    from ldip_jax.inference.programs import Programs
    from ldip_jax.models.ldip import LDIP
    from ldip_jax.models.lrrf import LRRF, init_lrrf
    from ldip_jax.models.networks.basicvsr import BasicVSR
    from ldip_jax.models.ref_align import Reference
    from tests.networks import random_like
    from tests.parity import torch_lrrf as twins

    shapes = jax.eval_shape(lambda: init_lrrf(LRRF(), jax.random.key(0)))
    params = random_like(shapes, np.random.default_rng(0))
    net = LDIP(BasicVSR(), LRRF(gate="max_confidence", band_pixels=BAND_PIXELS))
    programs = Programs(net, {"lrrf": params, "backbone": {}})
    twin = twins.LRRF()
    twins.load(twin, params)
    twin = twin.eval().to(memory_format=torch.channels_last)

    def in_jax(inputs):
        hr, keys, flows = inputs
        references = [Reference(*(x[:, 0, i] for x in keys.references)) for i in range(REFERENCES)]
        refined = refine(programs, hr[:, 0], references)
        if propagates:
            for reverse, flow in zip((True, False), flows, strict=True):
                refined = programs.propagate(reverse, refined, np.zeros_like(refined), flow[:, 0], None)
        return np.asarray(refined)

    @torch.no_grad()
    def in_torch(inputs):
        arrays = twins.inputs(*inputs)
        refined = twin(*arrays) if propagates else twin.refine(*arrays[:5])
        return refined.permute(0, 2, 3, 1).numpy()

    return {"jax": in_jax, "torch": in_torch}


def main() -> None:
    args = arguments()
    threads = prepare(args.threads)
    width, height = map(int, args.size.split("x"))
    show_versions(threads)
    print(f"random weights, {args.rounds} rounds; seconds, medians\n")
    show_heads()
    for name in args.only:
        if name == "gmflow":
            row = flow_network(name), scene(2, *MATCHING)
        elif name == "spynet":
            row = flow_network(name), scene(3, height, width)
        else:
            row = lrrf(propagates=name == "lrrf"), key_frame(height, width)
        show_row(name, *row, args.rounds)


if __name__ == "__main__":
    main()
