"""Where the command `ldip` begins: Ctrl-C ends it without a traceback even while modules are imported."""

import signal
import sys


def main() -> int:
    """Run `ldip`; returns the exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the command handles signals itself.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ldip_jax.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
