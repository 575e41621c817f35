"""The programs of inference and training, with the shapes of their arguments but without weights."""

import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import jaxprs_in_params
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ldip_jax.matching.dense import gmflow_bidirectional
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.lrrf import LRRF, init_lrrf
from ldip_jax.models.networks import BACKBONES
from ldip_jax.models.networks.backbone import Flows
from ldip_jax.models.networks.gmflow import GMFlow, gmflow_size
from ldip_jax.models.ref_align import Reference
from ldip_jax.models.trainable import trainable_modules, trainable_shapes
from ldip_jax.training import live_programs
from ldip_jax.training.config import crop_spec, step_options
from ldip_jax.training.live import PAIRS_PER_DEVICE
from ldip_jax.training.live_programs import HALO, MARGIN, PairInputs, WindowInputs
from ldip_jax.training.optimizer import make_optimizer
from ldip_jax.training.setup import HEAD, any_scale, module_config
from ldip_jax.training.state import start_state
from ldip_jax.training.step import train_step
from ldip_jax.weights.identify import NETWORKS
from tests.training.batches import abstract_batch

CONFIGS = (
    *("ldip_basicvsrpp_x4", "ldip_iart_x4", "as_basicvsrpp", "as_iart", "ldip_basicvsrpp_as", "ldip_iart_as"),
    *("ldip_basicvsr_x4", "as_basicvsr", "ldip_basicvsr_as"),
)
# Frames of REDS, and their LR size at x4.
FRAME, LR = (720, 1280), (180, 320)
# Bands of `ldip upscale`, by device.
BANDS = 2**17


class Program(NamedTuple):
    """A program: from a mesh of devices to a jitted function and its arguments, which are only shapes."""

    make: Callable[[Mesh], tuple[Any, tuple[Any, ...]]]
    what: str


def shape(*sizes: int, dtype: Any = np.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


def placed(tree: Any, mesh: Mesh, *axes: str) -> Any:
    """The same shapes on the devices: on all of them, or spread along the first axis."""
    where = NamedSharding(mesh, PartitionSpec(*axes))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), tree)


@cache
def parts(name: str, arg: str = "") -> tuple[Any, LDIP, dict[str, Any], dict[str, Any]]:
    """Config, modules, trained and frozen parameters (shapes) of a training config."""
    config = import_module(f"configs.{name}").get_config(arg)
    network = {"basicvsrpp": "basicvsr_pp"}.get(name.split("_")[1], name.split("_")[1])
    network = next(n for n in NETWORKS if n.replace("_", "") == network.replace("_", ""))
    options = NETWORKS[network].config({})
    backbone = BACKBONES[network](**options, band_pixels=config.band_pixels or None)
    groups = {*config.trains, *(HEAD if any_scale(config) else ())}
    modules = module_config(config, groups)
    boxes = trainable_modules(groups, modules, config.band_pixels or None)
    if "lrrf" in boxes:
        boxes["lrrf"] = boxes["lrrf"].clone(keep_features=True)
    net = LDIP(
        backbone,
        **boxes,
        hook=config.hook,
        remat_frames=config.remat_frames,
        propagation=config.propagation,
    )
    shapes = trainable_shapes(tuple(sorted(groups)), modules, "benchmark")
    trained = {group: shapes[group] for group in config.trains}
    frozen = {group: shapes[group] for group in groups if group not in config.trains}
    return config, net, trained, {**frozen, "backbone": NETWORKS[network].skeleton(options)}


def step(
    name: str,
    mesh: Mesh,
    *,
    samples: int = 1,
    large: bool = True,
    dtype: str = "",
    remat: bool | None = None,
    arg: str = "",
) -> tuple[Any, tuple[Any, ...]]:
    """A training step, with the largest crop if the scale varies. `arg`: "debug" for a tiny one."""
    config, net, trained, frozen = parts(name, arg)
    options = step_options(config)._replace(**({"dtype": dtype} if dtype else {}))
    if remat is not None:
        net = net.clone(remat_frames=remat)
    crops = crop_spec(config)
    scale = config.data.scale[0] if crops.hr_side else config.data.scale[1]
    batch = abstract_batch(crops, float(scale), samples * mesh.size)
    features = jax.ShapeDtypeStruct(batch.features.shape, np.float32)
    batch = batch._replace(features=features)
    slots = (
        (crops.max_key_frames, crops.max_references)
        if large
        else ((crops.max_key_frames + 1) // 2, (crops.max_references + 1) // 2)
    )
    if not crops.max_references:
        slots = (0, 0)
    batch = with_slots(batch, *slots)
    optimizer = make_optimizer(config)
    state = jax.eval_shape(lambda params: start_state(params, optimizer, ema=config.ema > 0), trained)
    update = partial(train_step, net, optimizer, options, mesh=mesh)
    everywhere = NamedSharding(mesh, PartitionSpec())
    run = jax.jit(update, donate_argnums=0, out_shardings=everywhere)
    return run, (placed(state, mesh), placed(frozen, mesh), placed(batch, mesh, "data"))


def with_slots(batch: Any, key_frames: int, references: int) -> Any:
    """The batch with these numbers of slots, as `stack` leaves them."""

    def fewer(x: jax.ShapeDtypeStruct, *slots: tuple[int, int]) -> jax.ShapeDtypeStruct:
        sizes = list(x.shape)
        for axis, n in slots:
            sizes[axis] = n
        return jax.ShapeDtypeStruct(tuple(sizes), x.dtype)

    slotted = {name: fewer(getattr(batch, name), (1, key_frames)) for name in ("key_frames", "key_valid")}
    both = ("images", "sizes", "warps", "confidence", "valid")
    slotted |= {name: fewer(getattr(batch, name), (1, key_frames), (2, references)) for name in both}
    if batch.route_warps is not None:
        slotted |= {
            name: fewer(getattr(batch, name), (2, key_frames)) for name in ("route_warps", "route_confidence")
        }
    return batch._replace(**slotted)


def run_backbone(name: str, mesh: Mesh, *, whole: bool = False) -> tuple[Any, tuple[Any, ...]]:
    """The backbone on one sample's crop with its halo, or on whole frames."""
    config, net, _, frozen = parts(name)
    crops = crop_spec(config)
    scale = config.data.scale[0] if crops.hr_side else config.data.scale[1]
    hr, lr = crops.sides(float(scale))
    halo = HALO if crops.max_references else 0
    size = LR if whole else (lr + 2 * halo,) * 2
    windows = WindowInputs(
        frames=shape(1, crops.target_frames, *size, 3, dtype=np.uint8),
        corner=shape(1, 2, dtype=np.int32),
        key_frames=shape(1, crops.max_key_frames, dtype=np.int32),
        origin=shape(1, 2),
        step=shape(1, 2),
        margin=shape(1, 2),
    )
    run = partial(
        live_programs.run_backbone,
        LDIP(net.backbone.clone(parent=None, name=None)),
        (hr, lr),
        crops.max_references > 0,
        crops.routes,
    )
    params = {"params": {"backbone": frozen["backbone"]}}
    return jax.jit(run), (placed(params, mesh), placed(windows, mesh))


def match(mesh: Mesh) -> tuple[Any, tuple[Any, ...]]:
    """GMFlow on as many pairs as a device matches at once."""
    size = gmflow_size(FRAME)
    small = shape(1, 64, 96, 3)
    params = jax.eval_shape(lambda a: GMFlow().init(jax.random.key(0), a, a)["params"], small)
    images = (shape(PAIRS_PER_DEVICE, *size, 3, dtype=np.uint8),) * 2
    run = partial(live_programs.match, gmflow_bidirectional)
    return jax.jit(run), (placed(params, mesh), placed(images, mesh))


def refine(mesh: Mesh) -> tuple[Any, tuple[Any, ...]]:
    """The refinement of as many pairs, on the HR crop with its margin."""
    size, side, p = gmflow_size(FRAME), 256 + 2 * MARGIN, PAIRS_PER_DEVICE
    _, _, _, frozen = parts("ldip_basicvsrpp_x4")
    pairs = PairInputs(
        images=shape(p, side, side, 3),
        references=shape(p, *FRAME, 3, dtype=np.uint8),
        is_portrait=shape(p, dtype=np.bool_),
        size=shape(p, 2),
        place=shape(p, 2),
        corner=shape(p, 2, dtype=np.int32),
        scale=shape(p, 2),
    )
    inputs = shape(p, *size, 2), shape(p, *size, 1), pairs
    run = partial(live_programs.refine, 256, 4.5)
    return jax.jit(run), (placed(frozen["backbone"]["spynet"], mesh), placed(inputs, mesh))


def lrrf(method: str, mesh: Mesh, *, size: tuple[int, int], count: int = 4, band: int = BANDS):
    """Ref-Align and Ref-Fusion of a key-frame with `count` references, or one step of HRIP."""
    (h, w), net = size, LRRF(band_pixels=band or None)
    params = jax.eval_shape(lambda: init_lrrf(net, jax.random.key(0)))
    hr = shape(1, h, w, 64)
    images = Reference(
        shape(1, count, h, w, 3),
        shape(1, count, 2, dtype=np.int32),
        shape(1, count, h, w, 2),
        shape(1, count, h, w, 1),
        shape(1, count),
    )
    constants, arrays = ((), (hr, images)) if method == "refine" else ((True,), (hr, hr, shape(1, h, w, 2)))

    def run(params: Any, *arrays: Any) -> Any:
        return net.apply({"params": params}, *constants, *arrays, method=method)

    return jax.jit(run), (placed(params, mesh), *placed(arrays, mesh))


def backbone(name: str, mesh: Mesh) -> tuple[Any, tuple[Any, ...]]:
    """Flow and features of two frames: each branch once per frame."""
    _, net, _, frozen = parts(name)
    plain = net.backbone.clone(parent=None, name=None, band_pixels=BANDS)

    def run(params: Any, frames: Any) -> Any:
        def features(net: Any, frames: Any) -> Any:
            return net.features(frames, Flows(*net.flows(frames)))

        return plain.apply({"params": params}, frames, method=features)

    return jax.jit(run), (placed(frozen["backbone"], mesh), placed(shape(1, 2, *LR, 3), mesh))


def all_programs() -> Iterator[tuple[str, Program]]:
    for label, size in (("720p", FRAME), ("1440p", (1440, 2560))):
        for count in (2, 8):
            make = partial(lrrf, "refine", size=size, count=count)
            yield f"fuse-{label}-{count}", Program(make, f"Ref-Align and Ref-Fusion, {count} references")
        yield f"hrip-{label}", Program(partial(lrrf, "propagate", size=size), "one step of HRIP")
    for name in ("ldip_basicvsr_x4", "ldip_basicvsrpp_x4", "ldip_iart_x4"):
        yield (
            f"backbone-{name.split('_')[1]}",
            Program(partial(backbone, name), "features of 2 frames 320x180"),
        )
    yield "match", Program(match, f"GMFlow on {PAIRS_PER_DEVICE} pairs")
    yield "refine", Program(refine, f"refinement of {PAIRS_PER_DEVICE} pairs")
    for name in CONFIGS:
        yield f"see-{name}", Program(partial(run_backbone, name), "frozen networks of a live sample")
        yield f"step-{name}", Program(partial(step, name), "training step, one sample a device, largest")
        yield f"step2-{name}", Program(partial(step, name, samples=2), "training step, two samples a device")
        if name.startswith("ldip"):
            make = partial(step, name, large=False)
            yield f"small-{name}", Program(make, "training step, one sample a device, smaller slots")
            make = partial(step, name, dtype="bfloat16")
            yield f"bf16-{name}", Program(make, "the largest in bfloat16")
            make = partial(step, name, remat=True)
            yield f"remat-{name}", Program(make, "the largest with remat_frames")


PROGRAMS = dict(all_programs())


def work(jaxpr: Any) -> float:
    """Operations of a program's products and convolutions; loops count as often as they run."""
    total = 0.0
    for equation in jaxpr.eqns:
        kind, params = equation.primitive.name, equation.params
        if kind == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2.0 * depth * math.prod(equation.outvars[0].aval.shape)
        elif kind == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            outputs = params["dimension_numbers"].rhs_spec[0]
            total += 2.0 * math.prod(kernel) / kernel[outputs] * math.prod(equation.outvars[0].aval.shape)
        else:
            inner = [work(sub) for sub in jaxprs_in_params(params)]
            if kind == "cond":
                total += max(inner)
            else:
                total += sum(inner) * (params["length"] if kind == "scan" else 1)
    return total
