"""Fingerprints of clips: what a few of their frames show, whatever the size, the codec and the name.

A frame is reduced to 32x32 grey levels, of which the signs of the lowest frequencies are kept (a perceptual
hash). Scaling and compression change a few of its bits; another picture changes about half of them.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ldip_jax.data.folders import SourceClip
from ldip_jax.media.color import quantise
from ldip_jax.media.images import read_image
from ldip_jax.media.reader import open_clip

_SIDE = 32
# The lowest frequencies along each axis; the mean is left out, so that a hash has 143 bits.
_FREQUENCIES = 12
# Two frames show the same if at most this many bits differ. On real clips, a quarter of the size with JPEG at
# quality 20 changed up to 8 bits; frames of different clips differed in at least 46.
MAX_DIFFERENT_BITS = 16
# A frame whose grey levels vary less than this (standard deviation, in steps of 8 bits) shows too little.
_PLAIN = 4.0
# The number of frames of a clip that are compared with a list.
PROBES = 7

# Hexadecimal digits of a hash, which has whole bytes.
DIGITS = 2 * -(-(_FREQUENCIES**2 - 1) // 8)

_WAVES = np.cos(np.pi * np.arange(_FREQUENCIES)[:, None] * (np.arange(_SIDE) + 0.5) / _SIDE)


def frame_hash(image: UInt8[np.ndarray, "h w 3"]) -> str | None:
    """The hash of a frame, in hexadecimal digits; None if the frame is plain."""
    small = Image.fromarray(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    grey = np.asarray(small, np.float64)
    if grey.std() < _PLAIN:
        return None
    waves = (_WAVES @ grey @ _WAVES.T).ravel()[1:]
    return np.packbits(waves > np.median(waves)).tobytes().hex()


def fingerprints(clips: Iterable[SourceClip], probes: int = PROBES) -> Iterator[str]:
    """The fingerprint of each clip: hashes of `probes` frames spread over it, separated by spaces.

    Parts of a video that follow each other are read in one pass.

    Raises:
        InputError: a frame is damaged; the message names it.
    """
    video: Path | None = None
    frames: Iterator[np.ndarray] = iter(())
    read = 0
    for clip in clips:
        places = sorted({int((i + 0.5) / probes * clip.count) for i in range(probes)})
        if clip.is_video:
            if clip.files[0] != video or clip.first < read:
                video, read = clip.files[0], 0
                frames = open_clip(video).frames()
            wanted = [clip.first + place - read for place in places]
            images = list(_frames_at(frames, wanted))
            read += wanted[-1] + 1
        else:
            images = (read_image(clip.files[place])[0] for place in places)
        hashes = (frame_hash(quantise(image, 8)) for image in images)
        yield " ".join(text for text in hashes if text is not None)


def _frames_at(frames: Iterator[np.ndarray], places: list[int]) -> Iterator[np.ndarray]:
    """The frames at these places, counted from the next frame on; none after the last one is read."""
    for place, frame in enumerate(islice(frames, places[-1] + 1)):
        if place in places:
            yield frame


def shows_the_same(probe: str, known: str) -> bool:
    """Whether at least half of the frames of a fingerprint are among those of another one."""
    theirs, ours = _bits(probe), _bits(known)
    if not len(theirs) or not len(ours):
        return False
    differences = np.count_nonzero(theirs[:, None] != ours[None], axis=-1).min(axis=1)
    return bool(2 * np.count_nonzero(differences <= MAX_DIFFERENT_BITS) >= len(theirs))


def _bits(fingerprint: str) -> np.ndarray:
    rows = [np.frombuffer(bytes.fromhex(text), np.uint8) for text in fingerprint.split()]
    return np.unpackbits(np.stack(rows), axis=-1) if rows else np.zeros((0, 8 * DIGITS // 2), np.uint8)
