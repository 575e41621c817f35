"""`ldip` as a child of the studio: interrupted, as by Ctrl-C, when the studio closes its input or dies."""

import _thread
import os
import signal
import sys
import threading
from collections.abc import Sequence

from ldip_jax.cli.main import main as ldip


def _watch() -> None:
    # Not by `sys.stdin`, whose lock a thread may not hold when the interpreter ends.
    while os.read(0, 1024):
        pass
    _thread.interrupt_main()


def main(words: Sequence[str]) -> int:
    """Run `ldip` with these words; returns the exit code."""
    # A studio that was started in the background may ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_watch, daemon=True).start()
    return ldip(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
