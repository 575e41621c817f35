"""Training of MRefSR's restoration network by its authors' recipe, with only the reconstruction loss.

Batches of 48 crops of 160x160 with five references each, Adam (0.9, 0.999) with a constant rate of 1e-4, 1e-5
for the offsets of the medium level and 1e-6 for those of the small one, L1, 255,000 steps.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, UInt8

from ldip_jax.data.datasets import open_clips, sampling_spec
from ldip_jax.data.reference_crops import ReferenceSample, draw_reference_sample
from ldip_jax.data.source import SampleStream
from ldip_jax.errors import InputError
from ldip_jax.inference.mrefsr import match_input
from ldip_jax.inference.mrefsr_model import load_extractor, load_features
from ldip_jax.models.networks.mrefsr import Extractor, MRefSR, init_restoration
from ldip_jax.models.networks.vgg import VGG
from ldip_jax.models.trainable import initialise
from ldip_jax.ops.resize import resize_bicubic
from ldip_jax.training.config import Config
from ldip_jax.training.log import contact_sheet
from ldip_jax.training.optimizer import make_optimizer
from ldip_jax.training.state import TrainState, trained_params, tree_sha256
from ldip_jax.training.step import Params, images, psnr, update
from ldip_jax.weights.load import Weights, load_weights, save_weights

NAME = "mrefsr"
SEEDED = "seeded"


@dataclass(frozen=True)
class MRefSRRun:
    """The parts of a run.

    Attributes:
        net: the restoration network.
        config: what its weights are stored with, see `weights/mrefsr.py`.
        frozen: parameters of "extractor" and "features".
        params: {"mrefsr": parameters at the start}.
        frozen_hashes: names and sha256 of the frozen weights.
    """

    net: MRefSR
    config: dict[str, Any]
    frozen: dict[str, Any]
    params: dict[str, Any]
    frozen_hashes: dict[str, str]

    def describe(self) -> str:
        """A line that says what is trained, and with which frozen networks."""
        count = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        used = f"{self.config['encoder']} features and {self.config['matches']} matches"
        return f"training {NAME} ({count:,} parameters) with {used}"

    def frozen_sha256(self) -> dict[str, str]:
        """The sha256 of the frozen weights, by what they are. A checkpoint needs the same ones."""
        return self.frozen_hashes

    def export(self, path: str | Path, trained: Mapping[str, Any], provenance: dict[str, str]) -> None:
        """Write trained parameters as a file for --mrefsr."""
        params = jax.tree.map(np.asarray, trained[NAME])
        name = f"{NAME} after {provenance['steps']} steps on {provenance['data']}"
        licence = "as its training data allow"
        save_weights(path, Weights(name, NAME, self.config, params, tree_sha256(params), licence, []))


def make_run(config: Config, workdir: str | Path, progress=print) -> MRefSRRun:
    """Load the frozen networks, and draw the restoration network's parameters or load them.

    Args:
        workdir: where a random VGG is stored, if config.mrefsr.vgg is "seeded".

    Raises:
        InputError: weights that cannot be loaded or do not fit.
    """
    options = config.mrefsr
    vgg, extractor = options.vgg or None, options.extractor or None
    if vgg == SEEDED:
        vgg = extractor = _seeded_vgg(Path(workdir))
    features = load_features(options.encoder, vgg, progress)
    matching = load_extractor(options.matches, extractor, progress)
    stored = {"blocks": options.blocks, "encoder": options.encoder, "matches": options.matches}
    net = MRefSR(blocks=options.blocks, band_pixels=config.band_pixels or None)
    if config.init_from:
        weights = load_weights(config.init_from, network=NAME, progress=progress)
        if weights.config != stored:
            raise InputError(
                f"config.init_from={config.init_from}: trained as {weights.config}, not as {stored}"
            )
        params = weights.params
    else:
        params = init_restoration(net, config.seed)
    return MRefSRRun(
        net=net,
        config=stored,
        frozen={"extractor": matching.params, "features": features.params},
        params={NAME: params},
        frozen_hashes={"extractor": matching.sha256, "features": features.sha256},
    )


def _seeded_vgg(workdir: Path) -> Path:
    """A VGG-16 with random weights in a file of `workdir`, for runs without a network."""
    path = workdir / "vgg.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = initialise(lambda key: VGG().init(key, jnp.zeros((1, 8, 8, 3)))["params"], jax.random.key(0))
        params = jax.tree.map(np.asarray, drawn)
        licence = "none: random numbers"
        save_weights(path, Weights(SEEDED, "vgg16", {}, params, tree_sha256(params), licence, []))
    return path


def restored_images(net: MRefSR, params: Params, batch: Any) -> Float[Array, "b H W 3"]:
    """The network's images for a batch, not clamped.

    Args:
        params: "mrefsr", "extractor" and "features".
        batch: a `ReferenceSample` with a leading batch axis.
    """
    low, references = images(batch.lr), jnp.moveaxis(images(batch.references), 1, 0)
    upscaled = match_input(low)

    def one(reference: Array) -> Any:
        offsets = Extractor().apply({"params": params["extractor"]}, upscaled, reference)
        return offsets, VGG().apply({"params": params["features"]}, reference, method="maps")

    offsets, maps = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), jax.lax.map(one, references))
    offsets, maps = jax.lax.stop_gradient((offsets, maps))
    return net.apply({"params": params[NAME]}, low, maps, offsets)  # type: ignore[return-value]


def train_step(
    net: MRefSR,
    optimizer: optax.GradientTransformation,
    ema: float,
    state: TrainState,
    frozen: Params,
    batch: ReferenceSample,
    *,
    mesh: Any = None,
) -> tuple[TrainState, dict[str, Array]]:
    """One update by the L1 over all pixels and channels; arguments and result as of `step.train_step`."""

    def loss(params: Params, frozen: Params, batch: Any) -> Float[Array, ""]:
        return jnp.mean(jnp.abs(restored_images(net, {**frozen, **params}, batch) - images(batch.hr)))

    return update(loss, optimizer, ema, state, frozen, batch, mesh)


def validation_step(
    net: MRefSR, state: TrainState, frozen: Params, batch: ReferenceSample
) -> tuple[dict[str, Array], Float[Array, "b H W 3"]]:
    """PSNR of the output, of bicubic interpolation, and their difference, in dB; and the images."""
    out = restored_images(net, {**frozen, **trained_params(state)}, batch)
    hr = images(batch.hr)
    simple = resize_bicubic(images(batch.lr), (hr.shape[1], hr.shape[2]))
    ours, base = (psnr(x[:, None], hr[:, None]) for x in (out, simple))
    return {"psnr": ours, "psnr_bicubic": base, "gain": ours - base}, out


def offset_rates(params: Any) -> Any:
    """Factors of the learning rate: 0.1 for the medium level's offsets, 0.01 for the small one's, else 1."""

    def factor(path: Any, _: Any) -> float:
        names = [step.key for step in path]
        if not any("offset" in name for name in names):
            return 1.0
        slow = {"dyn_agg_restore_medium": 0.1, "dyn_agg_restore_small": 0.01}
        return next((slow[name] for name in names if name in slow), 1.0)

    return jax.tree_util.tree_map_with_path(factor, params)


def optimizer(config: Config) -> optax.GradientTransformation:
    """`make_optimizer`, with slower offsets."""

    def scale(updates: Any, params: Any) -> Any:
        return jax.tree.map(lambda update, rate: rate * update, updates, offset_rates(params))

    return optax.chain(make_optimizer(config), optax.stateless(scale))


class MRefSRFeed:
    """This process's part of every global batch, in order; its `state` is the position to resume from."""

    def __init__(self, config: Config, process: tuple[int, int] = (0, 1), next_index: int = 0):
        """
        Raises:
            InputError: no data, or held-out clips in it.
        """
        data = config.data
        make = partial(draw_reference_sample, sampling_spec(data), data.crop, data.jitter)
        self._stream: SampleStream[ReferenceSample] = SampleStream(
            open_clips(data, seed=config.seed),
            make,
            seed=config.seed,
            batch_size=config.batch_size,
            process=process,
            workers=data.workers,
            next_index=next_index,
        )

    def __iter__(self) -> Iterator[ReferenceSample]:
        return self

    def __next__(self) -> ReferenceSample:
        return stack(next(self._stream))

    @property
    def state(self) -> dict[str, int]:
        """What to store in order to resume from here."""
        return self._stream.state

    def __enter__(self) -> "MRefSRFeed":
        return self

    def __exit__(self, *_: Any) -> None:
        self._stream.close()


def stack(samples: list[ReferenceSample]) -> ReferenceSample:
    """Samples as a batch."""
    return ReferenceSample(*map(np.stack, zip(*samples, strict=True)))


def validation_samples(config: Config) -> list[ReferenceSample]:
    """The same few samples for every validation; none if the config names no validation data."""
    data = config.data
    if data.dataset != "synthetic" and not data.validation_split:
        return []
    clips = open_clips(data, data.validation_split, seed=config.seed + 1)
    spec = sampling_spec(data)
    samples = []
    for i in range(config.validation_samples):
        rng = np.random.default_rng([1, i])
        samples.append(
            stack([draw_reference_sample(spec, data.crop, data.jitter, clips[i % len(clips)], rng)])
        )
    return samples


def reference_contact_sheet(batch: ReferenceSample, output: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """The first sample of a batch and its restored image as one picture."""
    return contact_sheet(batch.lr[:1], output[None], batch.hr[:1], ())
