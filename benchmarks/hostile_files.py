"""Damaged and hostile files for every reader, and for the writer with sound: a result, or a one-line error.

    python benchmarks/hostile_files.py [--cases N] [--seed N] [--memory GB] [--kind NAME ...]

Small valid files of every kind are made, damaged at random (bits, blocks, lengths, ends) and read, each kind
in a process of its own; videos are also rewritten with their sound. Some kinds also have files that claim to
hold far more than they do. A case fails if a reader raises anything but an `InputError` of one line, if its
process dies, or if it takes longer than a minute; it also fails if an undamaged file is refused.
`--memory` limits each process. The exit code is 1 after any failure.
"""

import argparse
import faulthandler
import json
import resource
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from ldip_jax.command import at_least
from ldip_jax.errors import InputError

SECONDS = 60
SIZE = (32, 48)
IMAGES = ("png", "png16", "jpg", "tif", "webp", "avif", "gif", "bmp", "ppm", "tga", "jp2")
VIDEOS = {
    "mp4": ("libx264", "aac", ".mp4"),
    "mov": ("libx264", "pcm_s16le", ".mov"),
    "mkv": ("libx264", "flac", ".mkv"),
    "webm": ("libvpx", "libopus", ".webm"),
    "avi": ("mpeg4", "libmp3lame", ".avi"),
    "ts": ("libx264", "aac", ".ts"),
    "mpg": ("mpeg1video", "mp2", ".mpg"),
}
WEIGHTS = ("safetensors", "npz", "pth", "index")
KINDS = (*IMAGES, *VIDEOS, *WEIGHTS, "matches")


def _picture(rng: np.random.Generator) -> Image.Image:
    small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    return small.resize(SIZE[::-1], Image.Resampling.BICUBIC)


def make_image(path: Path, rng: np.random.Generator) -> Path:
    kind = path.suffix[1:]
    picture = _picture(rng)
    if kind == "png16":
        path = path.with_suffix(".png")
        Image.fromarray(np.asarray(picture)[..., 0].astype(np.uint16) * 257).save(path)
    elif kind in ("webp", "avif", "gif", "tif"):
        picture.save(path, save_all=True, append_images=[_picture(rng), _picture(rng)])
    else:
        picture.save(path)
    return path


def make_video(path: Path, codec: str, sound: str, rng: np.random.Generator) -> Path:
    with av.open(str(path), "w") as output:
        video, tone = output.add_stream(codec, rate=25), output.add_stream(sound, rate=48000)
        context = video.codec_context
        context.height, context.width, context.pix_fmt = *SIZE, "yuv420p"
        resampler = av.AudioResampler(tone.codec_context.format, "stereo", 48000)
        for number in range(12):
            frame = av.VideoFrame.from_image(_picture(rng)).reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(video.encode(frame))
            samples = rng.integers(-9000, 9000, (1, 2 * 1920)).astype(np.int16)
            piece = av.AudioFrame.from_ndarray(samples, "s16", "stereo")
            piece.sample_rate, piece.pts, piece.time_base = 48000, 1920 * number, Fraction(1, 48000)
            for resampled in resampler.resample(piece):
                output.mux(tone.encode(resampled))
        output.mux(video.encode(None))
        output.mux(tone.encode(None))
    return path


def make_weights(path: Path, rng: np.random.Generator) -> Path:
    from ldip_jax.weights.formats import write_safetensors
    from tests.weights.forge import write_pth

    arrays = {"a.weight": rng.random((4, 5), np.float32), "a.bias": rng.random(4, np.float32)}
    if path.suffix == ".npz":
        np.savez_compressed(path, **arrays)
    elif path.suffix == ".pth":
        write_pth(path, arrays)
    elif path.suffix == ".index":
        write_safetensors(path.parent / "part.safetensors", arrays, {})
        path.write_text(json.dumps({"weight_map": dict.fromkeys(arrays, "part.safetensors")}))
    else:
        write_safetensors(path, arrays, {"format": "x"})
    return path


def make_matches(path: Path) -> Path:
    warp = np.zeros((8, 8, 2), np.float32)
    np.savez_compressed(path, warp=warp, confidence=warp[..., 0])
    return path


def original(kind: str, folder: Path, rng: np.random.Generator) -> Path:
    if kind in IMAGES:
        return make_image(folder / f"a.{kind}", rng)
    if kind in VIDEOS:
        codec, sound, suffix = VIDEOS[kind]
        return make_video(folder / f"a{suffix}", codec, sound, rng)
    if kind in WEIGHTS:
        return make_weights(folder / f"a.{kind}", rng)
    return make_matches(folder / "00000000_a.npz")


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Damages a file in one of many ways."""
    changed = bytearray(data)
    place = int(rng.integers(len(data)))
    length = int(rng.integers(1, max(2, len(data) // 8)))
    match int(rng.integers(8)):
        case 0:
            for spot in rng.integers(0, len(data), int(rng.integers(1, 20))):
                changed[spot] ^= 1 << int(rng.integers(8))
        case 1:
            del changed[place:]
        case 2:
            changed[place : place + length] = bytes(length)
        case 3:
            changed[place:place] = changed[place : place + length]
        case 4:
            del changed[place : place + length]
        case 5:
            changed[place : place + 4] = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4)][rng.integers(3)]
        case 6:
            changed[place : place + length] = rng.bytes(length)
        case _:
            # Headers are where lengths are.
            for spot in rng.integers(0, min(len(data), 256), 3):
                changed[spot] = int(rng.integers(256))
    return bytes(changed)


def traps(kind: str, folder: Path) -> Iterator[bytes]:
    """Small files that claim to be large."""
    if kind == "png":
        path = folder / "trap.png"
        Image.new("1", (13000, 13000)).save(path)
        yield path.read_bytes()
        head = b"\x89PNG\r\n\x1a\n"
        size = (50000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
        yield head + (13).to_bytes(4, "big") + b"IHDR" + size + zlib.crc32(b"IHDR" + size).to_bytes(4, "big")
    if kind in ("npz", "matches"):
        path = folder / "trap.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open("warp.npy", "w") as member:
                member.write(b"\x93NUMPY\2\0" + struct.pack("<I", 900 << 20))
                for _ in range(900):
                    member.write(b" " * (1 << 20))
            archive.writestr("confidence.npy", b"\x93NUMPY\1\0\2\0{}")
        yield path.read_bytes()
    if kind == "safetensors":
        yield (1 << 40).to_bytes(8, "little") + b"{" + bytes(100)
        text = json.dumps({"a": {"dtype": "F32", "shape": [1 << 30], "data_offsets": [0, 1 << 32]}}).encode()
        yield len(text).to_bytes(8, "little") + text
    if kind == "tif":
        # Two billion pixels in a header.
        tags = [(256, 4, 1, 45000), (257, 4, 1, 45000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
        tags += [(273, 4, 1, 8), (279, 4, 1, 100)]
        body = b"".join(
            t.to_bytes(2, "little")
            + k.to_bytes(2, "little")
            + n.to_bytes(4, "little")
            + v.to_bytes(4, "little")
            for t, k, n, v in tags
        )
        yield b"II*\0\x08\0\0\0" + len(tags).to_bytes(2, "little") + body + bytes(4)


def read(kind: str, path: Path) -> None:
    """Reads such a file as ldip_jax does."""
    if kind in IMAGES:
        from ldip_jax.media.images import read_image
        from ldip_jax.media.reader import open_clip

        try:
            read_image(path)
        finally:
            for _ in islice(open_clip(path), 10):
                pass
    elif kind in VIDEOS:
        rewrite(path)
    elif kind in WEIGHTS:
        from ldip_jax.weights.formats import read_checkpoint

        read_checkpoint(path)
    else:
        from ldip_jax.matching.loading import PrecomputedMatcher
        from ldip_jax.matching.matcher import Pair

        frame = np.zeros((1, 8, 8, 3), np.float32)
        PrecomputedMatcher(path.parent).coarse(Pair(frame, frame, key_frame=0, name="a"))


def rewrite(path: Path) -> None:
    """Writes a video's pictures and sound to a new file."""
    from ldip_jax.media.reader import open_clip
    from ldip_jax.media.writer import open_writer

    clip = open_clip(path)
    target = path.parent / ("out.mkv" if path.suffix in (".mp4", ".avi") else "out.mp4")
    with open_writer(target, height=clip.height, width=clip.width, source=clip, overwrite=True) as writer:
        for frame in islice(clip, 60):
            writer.write(frame)


def outcome(work: Callable[[], None]) -> str:
    """ "read", "refused", or what went wrong."""
    try:
        work()
    except InputError as error:
        return "refused" if str(error).isprintable() else f"a message of several lines: {str(error)[:80]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:80]!r}"
    return "read"


def work(kind: str, cases: int, seed: int, first: int, memory: float | None) -> int:
    """The process of one kind: prints a line before each case, and its outcome."""
    av.logging.set_level(None)
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (int(memory * (1 << 30)),) * 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = original(kind, folder, np.random.default_rng(seed))
        data = path.read_bytes()
        hostile = [data, *traps(kind, folder)]
        for number in range(first, cases + len(hostile)):
            rng = np.random.default_rng([seed, number])
            path.write_bytes(hostile[number] if number < len(hostile) else damage(data, rng))
            print(number, "begins", flush=True)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            what = outcome(lambda: read(kind, path))
            faulthandler.cancel_dump_traceback_later()
            print(number, "refused undamaged" if number == 0 and what == "refused" else what, flush=True)
    print("all done", flush=True)
    return 0


def run_kind(kind: str, cases: int, seed: int, memory: float | None) -> tuple[Counter, list[str]]:
    """Counts of outcomes of all cases of a kind, and its failures."""
    counts: Counter = Counter()
    failures: list[str] = []
    first = 0
    while True:
        command = [sys.executable, __file__, "--worker", kind, "--cases", str(cases), "--seed", str(seed)]
        command += ["--first", str(first), *(["--memory", str(memory)] if memory else [])]
        try:
            limit = SECONDS + 2 * cases
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
            output, ending = done.stdout, f"the process ended with {done.returncode}"
        except subprocess.TimeoutExpired as error:
            output, ending = (error.stdout or b"").decode(), "takes too long"
        number = first - 1
        for line in output.splitlines():
            case, _, what = line.partition(" ")
            if line == "all done":
                return counts, failures
            number = int(case)
            if what != "begins":
                counts[what if what in ("read", "refused") else "failed"] += 1
                failures += [] if what in ("read", "refused") else [f"{kind} {number}: {what}"]
        counts["failed"] += 1
        failures.append(f"{kind} {number}: {ending}")
        if number < first:
            # The process cannot even start.
            return counts, failures
        first = number + 1


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=at_least(1), default=200, help="of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the damage (default: %(default)s)")
    parser.add_argument("--memory", type=float, metavar="GB", help="limit of each process")
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=KINDS, help="by default all")
    parser.add_argument("--worker", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=at_least(0), default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        return work(args.worker, args.cases, args.seed, args.first, args.memory)
    print(f"{'kind':12}{'read':>8}{'refused':>9}{'failed':>8}")
    everything: list[str] = []
    for kind in args.kind:
        counts, failures = run_kind(kind, args.cases, args.seed, args.memory)
        print(f"{kind:12}{counts['read']:>8}{counts['refused']:>9}{counts['failed']:>8}", flush=True)
        everything += failures
    for failure in everything:
        print(failure)
    print(f"{len(everything)} failures")
    return 1 if everything else 0


if __name__ == "__main__":
    sys.exit(main())
