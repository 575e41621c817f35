"""How `train.py` meets the user: flags and a config file read without tracebacks, exit codes kept."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags, logging

from ldip_jax.cli.main import guarded


def run(main: Callable[[], int], argv: Sequence[str] | None = None) -> None:
    """Parse the flags, run `main` and end the process with its exit code; 2 for what the user can mend."""
    needs_less = "a smaller config.batch_size, data.crop or band_pixels, or remat_frames=True, needs less"
    work = lambda _: sys.exit(guarded(sys.argv[0], main, needs_less))  # noqa: E731
    app.run(work, argv=list(argv or sys.argv), flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
        # A file that could not be loaded says so when it is first looked at.
        config: Any = flags.FLAGS["config"].value
        config.keys()
    # A config file is a program of the user's, and so are the values given for its fields: anything may fail.
    except Exception as error:
        if isinstance(error, AttributeError):
            _fail(
                f"no such field of the config: {str(error).strip(chr(34) + chr(39))}; see configs/common.py"
            )
        _fail(_reason(str(error)))
    if len(rest) > 1:
        _fail(f"{rest[1]}: not expected; options begin with --")
    logging.set_verbosity(logging.WARNING)
    return rest


def _reason(text: str) -> str:
    """The first line of a message that says something, and the last, which may say why."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(dict.fromkeys([lines[0], lines[-1]])) if lines else "bad flags"


def _fail(message: str) -> None:
    print(f"{sys.argv[0]}: {message}", file=sys.stderr)
    sys.exit(2)
