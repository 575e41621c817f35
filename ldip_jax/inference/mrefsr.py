"""MRefSR, the method that the paper compares with: every frame by itself, x4, with every still."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.errors import InputError
from ldip_jax.inference.model import BAND_PIXELS
from ldip_jax.inference.mrefsr_model import MRefSRModel
from ldip_jax.inference.programs import to_size
from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.references import ReferenceChoice
from ldip_jax.inference.upscaler import Segment
from ldip_jax.models.networks.mrefsr import Extractor
from ldip_jax.models.networks.vgg import STEP, VGG
from ldip_jax.ops.patch_match import SIDE
from ldip_jax.ops.resize import resize_bicubic

SCALE = 4
# Frames of a segment.
SEGMENT_FRAMES = 8


def fit_into(still: Still, size: tuple[int, int]) -> Float[np.ndarray, "H W 3"]:
    """A still at `size` (height, width): resized to fit into it, black beyond its edges and outside its mask.

    The official code pads images of different sizes in the same way.
    """
    image = still.image if still.mask is None else still.image * still.mask[..., None]
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    shape = tuple(min(round(side * scale), most) for side, most in zip(image.shape, size, strict=False))
    if shape != image.shape[:2]:
        image = np.asarray(to_size(jnp.asarray(image, jnp.float32)[None], (shape[0], shape[1]))[0])
    pads = ((0, size[0] - image.shape[0]), (0, size[1] - image.shape[1]), (0, 0))
    return np.pad(image, pads).astype(np.float32)


class MRefSRUpscaler:
    """MRefSR for frames of one size, with the interface of an `Upscaler`.

    Attributes:
        model: the networks and their weights.
        size, out_size: (height, width) of the frames in and out.
        choices: empty: there are no key-frames, every still serves every frame.
        backbone_only_frames, cuts: as of an `Upscaler`; nothing is left out, and no frame uses another one.
        notes: lines to show to the user.
        on_key_frame: not used.
    """

    def __init__(self, model: MRefSRModel, size: tuple[int, int], out_size: tuple[int, int]):
        """
        Args:
            size, out_size: (height, width) of the frames in and out; an output that is not x4 is resized.

        Raises:
            InputError: the frames are too small.
        """
        if min(size) < SIDE:
            raise InputError(
                f"frames of {size[1]}x{size[0]} are too small for MRefSR; it needs {SIDE}x{SIDE}"
            )
        self.model, self.size, self.out_size = model, size, out_size
        self.choices: dict[int, list[ReferenceChoice]] = {}
        self.backbone_only_frames, self.cuts = 0, set[int]()
        self.notes = list(model.notes)
        self.on_key_frame: Any = None
        self._large = (SCALE * size[0], SCALE * size[1])
        if out_size != self._large:
            self.notes.append("MRefSR is for x4: its output is resized")
        band = BAND_PIXELS // STEP**2
        self._match = jax.jit(lambda params, *images: Extractor(band).apply({"params": params}, *images))
        self._restore = jax.jit(self._restore_frame)

    def _restore_frame(self, params: Any, frame: Array, references: Array, offsets: Array) -> Array:
        """One frame, 1 h w 3, from n references, `n 1 H W 3`, and offsets to their matches, `1 n h w 2`."""
        vgg = VGG(BAND_PIXELS // STEP**2)
        maps = jax.lax.map(lambda x: vgg.apply({"params": params["features"]}, x, method="maps"), references)
        maps = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), maps)
        return self.model.net.apply({"params": params["restoration"]}, frame, maps, offsets)  # type: ignore

    def frames(
        self,
        frames: Iterable[Float[np.ndarray, "h w 3"]],
        stills: Iterable[Still] = (),
        advance: Callable[[str], None] = lambda _: None,
    ) -> Iterator[Float[np.ndarray, "H W 3"]]:
        """See `Upscaler.frames`.

        Raises:
            InputError: there is no still.
        """
        for segment in self.segments(frames, stills, advance):
            yield from segment.images

    def segments(
        self,
        frames: Iterable[Float[np.ndarray, "h w 3"]],
        stills: Iterable[Still] = (),
        advance: Callable[[str], None] = lambda _: None,
    ) -> Iterator[Segment]:
        """See `Upscaler.segments`: a few frames each.

        Raises:
            InputError: there is no still.
        """
        references = [jnp.asarray(fit_into(still, self._large))[None] for still in stills]
        if not references:
            raise InputError("MRefSR needs reference images; give some with --ref")
        stream, first = iter(frames), 0
        while group := list(islice(stream, SEGMENT_FRAMES)):
            yield Segment(range(first, first + len(group)), self._images(group, references, advance))
            first += len(group)

    def _images(
        self, frames: list[np.ndarray], references: list[Array], advance: Callable[[str], None]
    ) -> Iterator[Float[np.ndarray, "H W 3"]]:
        params, stack = self.model.params, jnp.stack(references)
        for frame in frames:
            low = jnp.asarray(frame, jnp.float32)[None]
            upscaled = match_input(low)
            offsets = []
            for reference in references:
                offsets.append(self._match(params["extractor"], upscaled, reference))
                advance("match")
            image = self._restore(params, low, stack, jnp.stack(offsets, axis=1))
            advance("restore")
            yield np.asarray(to_size(image, self.out_size))[0]

    def check(self, count: int, stills: Sequence[Still]) -> None:
        """See `Upscaler.check`; nothing is refused."""

    def work(self, count: int, stills: Sequence[Still] = (), done: int = 0) -> dict[str, int]:
        """See `Upscaler.work`."""
        left = max(0, count - done)
        return {"match": left * len(stills), "restore": left}

    def costs(self) -> dict[str, float]:
        """See `Upscaler.costs`: in multiply-adds."""
        pixels = self._large[0] * self._large[1]
        return {"match": (pixels / STEP**2) ** 2 * 300, "restore": pixels * 3.5e6}


def match_input(frame: Float[Array, "b h w 3"]) -> Float[Array, "b H W 3"]:
    """What is matched with references: the frame x4, bicubic, rounded to 8 bits as in the official code."""
    size = (SCALE * frame.shape[1], SCALE * frame.shape[2])
    return jnp.round(jnp.clip(resize_bicubic(frame, size), 0.0, 1.0) * 255.0) / 255.0
