"""Time of a backbone here and in PyTorch, with the same weights, frames and threads, alternating in one run.

    pip install torch
    python benchmarks/backbone_vs_torch.py
    python benchmarks/backbone_vs_torch.py --weights random --network basicvsrpp      # or iart

JAX runs as in `ldip upscale`: frame by frame, in bands, with its compiler flags. PyTorch runs a whole clip in
float32, channels last, without gradients. A round runs both; an unmeasured run of each comes first. "wall" is
elapsed time. "cpu" is the CPU time of the process on all cores together; other programs on the machine affect
it less. The ratio is JAX / PyTorch for one round.
"""

import argparse
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NETWORKS = ("basicvsr", "basicvsrpp", "iart")
sys.path.insert(0, str(ROOT))

from ldip_jax.runtime import configure  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--weights",
        default="basicvsr-reds4",
        help="a name or a .pth file; 'random': random weights with a fixed seed, which are also used if the"
        " download fails (default: basicvsr-reds4)",
    )
    add("--network", choices=NETWORKS, default="basicvsr", help="for random weights (default: basicvsr)")
    add(
        "--sizes",
        nargs="+",
        default=["64x64", "180x144", "320x180"],
        metavar="WIDTHxHEIGHT",
        help="of the frames (default: 64x64 180x144 320x180)",
    )
    add("--frames", type=int, default=3, help="per clip (default: 3)")
    add("--rounds", type=int, default=7, help="measured rounds (default: 7)")
    add("--threads", type=int, help="cores for both (Linux; default: all)")
    return parser.parse_args()


def torch_network(network: str, config: Mapping[str, Any]):
    """The network in PyTorch; without a config, with the size of the first published weights."""
    from tests.parity.torch_basicvsr_pp import BasicVSRPlusPlus
    from tests.parity.torch_iart import IART
    from tests.parity.torch_twins import BasicVSR

    # The fields of a config are in the order of the twins' arguments.
    nets = dict(zip(NETWORKS, (BasicVSR, BasicVSRPlusPlus, IART), strict=True))
    return nets[network](*config.values())


def weights_file(name: str, network: str, folder: str) -> Path:
    """The checkpoint, with PyTorch's names, that both sides read."""
    import torch

    from ldip_jax.errors import InputError
    from ldip_jax.weights.catalogue import CATALOGUE
    from ldip_jax.weights.fetch import fetch

    if name not in ("random", *CATALOGUE):
        return Path(name)
    if name != "random":
        try:
            return fetch(name)
        except InputError as error:
            print(f"{error}\nrandom weights instead", file=sys.stderr)
    torch.manual_seed(0)
    path = Path(folder) / "random.pth"
    torch.save(torch_network(network, {}).state_dict(), path)
    return path


def runners(path: Path) -> dict[str, Callable]:
    """Functions that take frames, float32 `t h w 3`, and return upscaled frames."""
    import numpy as np
    import torch

    from ldip_jax.inference.engine import WindowFeatures, backbone_frames
    from ldip_jax.inference.model import make_network
    from ldip_jax.inference.programs import Programs
    from ldip_jax.weights.formats import read_checkpoint
    from ldip_jax.weights.load import load_weights

    weights = load_weights(path, network=NETWORKS)
    programs = Programs(make_network(None, weights), {"backbone": weights.params})
    net = torch_network(weights.network, weights.config)
    arrays = read_checkpoint(path).arrays.items()
    # The twins use the names of BasicSR.
    net.load_state_dict({_basicsr(name): torch.tensor(array) for name, array in arrays})
    net = net.eval().to(memory_format=torch.channels_last)

    def in_jax(frames):
        window = WindowFeatures(programs, list(frames), lambda _: None)
        images = backbone_frames(window, range(len(frames)), lambda _: None)
        return np.concatenate([np.asarray(image) for image in images])

    @torch.no_grad()
    def in_torch(frames):
        # These are views: in memory, channels are already last.
        return net(torch.tensor(frames).permute(0, 3, 1, 2)[None])[0].permute(0, 2, 3, 1).numpy()

    return {"jax": in_jax, "torch": in_torch}


def _basicsr(name: str) -> str:
    """A parameter's name in BasicSR's files, from its name in mmagic's or in BasicSR's."""
    name = re.sub(r"(basic_module\.\d\.basic_module)\.(\d)\.conv", lambda m: f"{m[1]}.{2 * int(m[2])}", name)
    name = re.sub(r"(backward|forward)_resblocks", r"\1_trunk", name)
    return re.sub(r"upsample(\d)\.upsample_conv", r"upconv\1", name)


def scene(frames: int, height: int, width: int):
    """A picture that moves by one or two pixels per frame, float32 `t h w 3`."""
    import numpy as np

    from tests.scenes import blocks

    still = blocks(0, height + frames, width + 2 * frames)
    return np.stack([still[i : i + height, 2 * i : 2 * i + width] for i in range(frames)])


def measure(run: Callable, frames) -> tuple[float, float]:
    """Elapsed time and CPU time, in seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    run(frames)
    return time.perf_counter() - wall, time.process_time() - cpu


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):5.2f} ({min(values):.2f} to {max(values):.2f})"


def prepare(count: int | None) -> int:
    """Before jax is imported: both sides use `count` threads, or one for each core; returns how many."""
    if count:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Waiting threads of one side must not take the cores from the other.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    configure()
    import torch

    torch.set_num_threads(threads)
    return threads


def show_versions(threads: int) -> None:
    import jax
    import torch

    print(f"jax {jax.__version__} on {jax.default_backend()}, torch {torch.__version__}, {threads} threads")


def show_heads() -> None:
    print("size      wall jax  torch  ratio (range)          cpu jax  torch  ratio (range)          largest")
    print("                                                                                      difference")


def show_row(label: str, sides: dict[str, Callable], inputs: Any, rounds: int, units: int = 1) -> None:
    """Run both sides in turn and print a line of the table; the times are of one of `units`."""
    import numpy as np

    results = {name: run(inputs) for name, run in sides.items()}
    difference = np.abs(results["jax"] - results["torch"]).max()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for index in range(rounds):
        for name in list(sides)[:: 1 if index % 2 else -1]:
            times[name].append(measure(sides[name], inputs))
    line = f"{label:8s}"
    for clock in (0, 1):
        ours, theirs = ([each[clock] / units for each in times[name]] for name in ("jax", "torch"))
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        line += f"  {statistics.median(ours):8.2f} {statistics.median(theirs):6.2f}  {spread(ratios):22s}"
    print(f"{line} {difference:9.1e}", flush=True)


def main() -> None:
    args = arguments()
    threads = prepare(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = weights_file(args.weights, args.network, folder)
        sides = runners(path)
    show_versions(threads)
    print(f"{path.name}, {args.frames} frames, {args.rounds} rounds; seconds per frame, medians\n")
    show_heads()
    for size in args.sizes:
        width, height = map(int, size.split("x"))
        show_row(size, sides, scene(args.frames, height, width), args.rounds, args.frames)


if __name__ == "__main__":
    main()
