"""How well scene cuts are found: precision, recall and false alarms.

    python benchmarks/scene_cuts.py --data DIR [--count N] [--seed N]

DIR holds clips at any depth: videos and folders of images. Sequences are made from pieces of them, with hard
cuts and with events that resemble cuts. Each clip is also run unchanged; its own cuts are those in KNOWN, or
none if it is not listed.

Clips are split into two halves by a hash of their names. Thresholds were chosen on "tuned". After looking at
"held out", three things were changed: the threshold of likeness was raised for dim and grey shots, repeated
pictures were excluded from the usual likeness, and the required drop below it was widened. The exit code is 1
if either half is out of bounds: recall and precision of the inserted cuts must be at least 0.95, with at most
one false alarm in twenty of the other sequences.
"""

import argparse
import hashlib
import io
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from ldip_jax.command import at_least
from ldip_jax.errors import InputError
from ldip_jax.inference.cuts import CutDetector
from ldip_jax.media.images import SUFFIXES
from ldip_jax.media.reader import open_clip

HIGH, SMALL = (270, 480), (36, 64)
LENGTH = 12
VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg"}
# First frames of shots, and of text on black, in clips that are widely available.
KNOWN = {
    "cityCC0": (116,),
    "sintel_trailer-720p": (334, 396, 404, 420, 571, 621, 658, 672, 1140, 1163, 1220),
}
BOUND, ALARMS = 0.95, 0.05

Frames = list[np.ndarray]


@dataclass
class Score:
    """The result for the sequences of one kind."""

    sequences: int = 0
    cuts: int = 0
    found: int = 0
    false: int = 0

    def add(self, other: "Score") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """8-bit RGB at (height, width)."""
    return np.asarray(Image.fromarray(frame).resize(size[::-1], Image.Resampling.BICUBIC))


def paths(folder: Path) -> Iterator[Path]:
    """Videos and folders of images, in name order."""
    entries = sorted(folder.iterdir())
    if any(entry.suffix.lower() in SUFFIXES for entry in entries):
        yield folder
    for entry in entries:
        if entry.is_dir():
            yield from paths(entry)
        elif entry.suffix.lower() in VIDEOS:
            yield entry


def held_out(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 1


def shots(name: str, frames: Frames) -> list[Frames]:
    """Whole shots of a clip that are long enough and contain no black frames."""
    edges = [0, *KNOWN.get(name, ()), len(frames)]
    parts = [frames[start:stop] for start, stop in pairwise(edges)]
    return [part for part in parts if len(part) > 2 * LENGTH and min(frame.std() for frame in part) > 20]


def light(frame: np.ndarray, gain: float, lift: float = 0.0) -> np.ndarray:
    values = frame.astype(np.float32) * gain
    return np.clip(values + lift * (255 - values), 0, 255).astype(np.uint8)


def noisy(rng: np.random.Generator, frame: np.ndarray, sigma: float) -> np.ndarray:
    return np.clip(frame + rng.normal(0, sigma, frame.shape), 0, 255).astype(np.uint8)


def blend(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    return (one * (1 - share) + other * share).astype(np.uint8)


def jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "jpeg", quality=quality)
    return np.asarray(Image.open(file))


class Maker:
    """Makes sequences from the shots of one half; each method returns frames and the cuts in them."""

    def __init__(self, clips: list[list[Frames]], rng: np.random.Generator):
        self.clips, self.rng = clips, rng

    def piece(self, clip: int | None = None, length: int = 2 * LENGTH) -> Frames:
        parts = self.clips[self.rng.integers(len(self.clips)) if clip is None else clip]
        part = parts[self.rng.integers(len(parts))]
        start = self.rng.integers(max(len(part) - length, 0) + 1)
        return part[start : start + length]

    def two(self) -> tuple[Frames, Frames]:
        one, other = self.rng.choice(len(self.clips), 2, replace=False)
        return self.piece(one, LENGTH), self.piece(other, LENGTH)

    def joined(self, change: Callable[[np.ndarray], np.ndarray] = lambda frame: frame) -> tuple[Frames, list]:
        one, other = self.two()
        return [change(frame) for frame in one + other], [len(one)]

    def cut_dark(self):
        return self.joined(lambda frame: noisy(self.rng, light(frame, 0.12), 2))

    def cut_grey(self):
        grey = np.array([0.299, 0.587, 0.114])
        return self.joined(lambda frame: np.repeat((frame @ grey)[..., None], 3, axis=-1).astype(np.uint8))

    def cut_coarse(self):
        return self.joined(lambda frame: jpeg(noisy(self.rng, frame, 8), 10))

    def cut_small(self):
        return self.joined(lambda frame: resized(frame, SMALL))

    def cut_repeats(self):
        """Every picture twice, as in animation on twos."""
        frames, (cut,) = self.joined()
        return [frame for frame in frames for _ in range(2)], [2 * cut]

    def cut_whip(self):
        """From a still shot into a fast pan."""
        one, _ = self.two()
        return one + self.pan(self.rng.uniform(0.1, 0.3))[:LENGTH], [len(one)]

    def same_clip(self):
        """Two parts of one shot, as far apart as possible."""
        parts = self.clips[self.rng.integers(len(self.clips))]
        part = max(parts, key=len)
        return part[:LENGTH] + part[-LENGTH:], [LENGTH]

    def flash(self):
        frames, lift = list(self.piece()), self.rng.uniform(0.5, 1.0)
        start, length = self.rng.integers(4, len(frames) - 6), self.rng.integers(1, 4)
        for i in range(start, start + length):
            frames[i] = light(frames[i], 1.0, lift)
        return frames, []

    def exposure(self):
        frames, gain = self.piece(), self.rng.choice([0.35, 0.5, 0.7, 1.4, 1.8])
        return [light(frame, gain if i >= LENGTH else 1.0) for i, frame in enumerate(frames)], []

    def dissolve(self):
        one, other = self.two()
        length = self.rng.integers(5, LENGTH + 1)
        mixed = [blend(one[-length + i], other[i], (i + 1) / (length + 1)) for i in range(length)]
        return one[:-length] + mixed + other[length:], []

    def fade(self):
        """A fade to black, then another scene fades in."""
        one, other = self.two()
        ramp = np.linspace(1, 0, self.rng.integers(5, LENGTH + 1))
        out = [light(frame, gain) for frame, gain in zip(one[-len(ramp) :], ramp, strict=True)]
        up = [light(frame, gain) for frame, gain in zip(other, ramp[::-1], strict=False)]
        return one[: -len(ramp)] + out + up + other[len(ramp) :], []

    def pan(self, speed: float) -> Frames:
        """A camera that is still, then pans by `speed` widths per frame, back and forth over a shot."""
        wide, (height, width) = (2 * HIGH[0], 3 * HIGH[1]), HIGH
        shutter, y = self.rng.uniform(0, 0.8), self.rng.integers(height)
        x, direction, made = 0.0, 1, []
        for i, frame in enumerate(self.piece()):
            step = speed * width * min(max(i - LENGTH // 2, 0), 2) / 2
            blur = max(int(shutter * step), 1)
            if not 0 <= x + direction * step <= wide[1] - width - blur:
                direction = -direction
            x += direction * step
            view = resized(frame, wide)[y : y + height, int(x) : int(x) + width + blur - 1]
            sums = np.pad(view.cumsum(axis=1, dtype=np.float32), ((0, 0), (1, 0), (0, 0)))
            made.append(((sums[:, blur:] - sums[:, :-blur]) / blur).astype(np.uint8))
        return made

    def whip_pan(self):
        return self.pan(self.rng.uniform(0.05, 0.4)), []

    def speed(self):
        """Every third frame: objects and cameras move three times as fast."""
        return self.piece(length=6 * LENGTH)[::3], []

    def repeats(self):
        """Every fourth frame twice, as in telecine, or every frame three times."""
        every = self.rng.integers(2)
        frames = self.piece()
        return [f for i, f in enumerate(frames) for _ in range(3 if every else 1 + (i % 4 == 0))], []

    def coarse(self):
        quality = int(self.rng.integers(5, 15))
        return [jpeg(noisy(self.rng, frame, 10), quality) for frame in self.piece()], []

    def dark(self):
        return [noisy(self.rng, light(frame, 0.06), 3) for frame in self.piece()], []

    def still(self):
        frame, sigma = self.piece()[0], self.rng.choice([0.0, 12.0])
        return [noisy(self.rng, frame, sigma) for _ in range(2 * LENGTH)], []

    def small(self):
        return [resized(frame, SMALL) for frame in self.piece()], []


CUTS = ("joined", "cut_small", "cut_dark", "cut_grey", "cut_coarse", "cut_repeats", "cut_whip")
NONE = ("flash", "exposure", "dissolve", "fade", "whip_pan", "speed", "repeats", "coarse", "dark", "still")


def detect(frames: Frames, spent: list[float]) -> list[int]:
    """The detected cuts; appends the seconds per frame to `spent`."""
    images = [frame.astype(np.float32) / 255 for frame in frames]
    detector, found, begin = CutDetector(), [], time.process_time()
    for image in images:
        found += detector.push(image)
    found += detector.finish()
    spent.append((time.process_time() - begin) / len(frames))
    return found


def judge(found: list[int], cuts: list[int]) -> Score:
    hits = len(set(found) & set(cuts))
    return Score(1, len(cuts), hits, len(found) - hits)


def row(kind: str, score: Score) -> None:
    recall = f"{score.found / score.cuts:9.3f}" if score.cuts else " " * 9
    reported = score.found + score.false
    precision = f"{score.found / reported:9.3f}" if score.cuts and reported else " " * 9
    print(f"{kind:14}{score.sequences:10}{score.cuts:6}{score.found:7}{score.false:7}{precision}{recall}")


def half(title: str, clips: dict[str, Frames], args: argparse.Namespace) -> bool:
    """Scores one half, and returns whether it is within the bounds."""
    scores, spent = defaultdict(Score), []
    usable = [found for name, frames in clips.items() if (found := shots(name, frames))]
    if len(usable) < 2:
        raise InputError(f"{args.data}: the half {title!r} has {len(usable)} usable clips; give more clips")
    print(f"\n{title}: {', '.join(clips)}")
    print(f"{'kind':14}{'sequences':>10}{'cuts':>6}{'found':>7}{'false':>7}{'precision':>10}{'recall':>8}")
    maker = Maker(usable, np.random.default_rng(args.seed))
    for kind in (*CUTS, "same_clip", *NONE, "small"):
        for _ in range(2 * args.count if kind == "joined" else args.count):
            frames, cuts = getattr(maker, kind)()
            scores[kind].add(judge(detect(frames, spent), cuts))
        row(kind, scores[kind])
    for name, frames in clips.items():
        scores["as they are"].add(judge(detect(frames, spent), list(KNOWN.get(name, ()))))
    row("as they are", scores["as they are"])
    with_cuts, without_cuts = Score(), Score()
    for kind, score in scores.items():
        (with_cuts if kind in CUTS else without_cuts).add(score)
    row("made cuts", with_cuts)
    print(f"{1e3 * np.median(spent):.1f} ms per frame")
    enough = with_cuts.found >= BOUND * max(with_cuts.cuts, with_cuts.found + with_cuts.false)
    return enough and without_cuts.false <= ALARMS * without_cuts.sequences


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--count", type=at_least(1), default=20, metavar="N", help="sequences per kind and half (default: 20)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args()
    halves: tuple[dict[str, Frames], dict[str, Frames]] = ({}, {})
    try:
        if not args.data.is_dir():
            raise InputError(f"{args.data}: no such folder; give one that holds clips")
        for path in paths(args.data):
            frames = (np.rint(frame * 255).astype(np.uint8) for frame in open_clip(path))
            halves[held_out(path.stem)][path.stem] = [resized(frame, HIGH) for frame in frames]
        enough = [half(*pair, args) for pair in zip(("tuned", "held out"), halves, strict=True)]
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if all(enough) else 1


if __name__ == "__main__":
    sys.exit(main())
