"""The channels of a sound track, found in a child process, and the AAC layout that keeps them.

PyAV 17.1 to 18.1 frees a channel layout of a custom order more than once, at each frame that it decodes, and
that ends the process. So a track that has to be decoded is decoded in a child first, and left out if it dies.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from av import AudioLayout

from ldip_jax.media.container import open_container

# Layouts that the AAC encoder writes and decoders name as they were, the smallest first.
_AAC = ("mono", "stereo", "2.1", "3.0", "4.0", "quad", "5.0", "5.1", "7.1")
# By the number of channels, where nothing says where they are.
_BY_COUNT = dict(enumerate(("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "7.1", "7.1"), start=1))
_UNPLACED = re.compile(r"(\d+) channels")
_DONE = "done"
_TIMEOUT = 1800.0


def aac_layout(layout: str) -> tuple[str, bool] | None:
    """The layout for AAC, and whether it keeps every channel of `layout` where it is; None: it has too many.

    Channels at the sides become those at the back where there are no others at the back.
    """
    if match := _UNPLACED.fullmatch(layout):
        target = _BY_COUNT.get(int(match[1]))
        return (target, True) if target else None
    held = _channels(layout)
    if not held & {"BL", "BR", "BC"}:
        held = {{"SL": "BL", "SR": "BR"}.get(name, name) for name in held}
    for target in _AAC:
        if held <= _channels(target):
            return target, True
    return next((target for target in _AAC if len(_channels(target)) >= len(held)), _AAC[-1]), False


def _channels(layout: str) -> set[str]:
    return {channel.name for channel in AudioLayout(layout).channels}


def decoded_layouts(path: Path, index: int) -> list[str] | None:
    """The layouts that the frames of a stream have, in order; None: decoding them ends a process."""
    # The package that runs here, and nothing from the current folder.
    command = [sys.executable, "-P", "-m", __name__, os.path.abspath(path), str(index)]
    own = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [own, os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": paths},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.splitlines()
    if not lines or lines[-1] != _DONE:
        return None
    return None if any(re.match(r"\d+ channels \(", name) for name in lines) else lines[:-1]


def _print_layouts(path: Path, index: int) -> None:
    last = None
    with open_container(path) as container:
        for packet in container.demux(container.streams[index]):
            try:
                frames: Any = packet.decode()
            except Exception:
                continue
            for frame in frames:
                if frame.layout.name != last:
                    last = frame.layout.name
                    print(last, flush=True)
    print(_DONE, flush=True)


if __name__ == "__main__":
    _print_layouts(Path(sys.argv[1]), int(sys.argv[2]))
