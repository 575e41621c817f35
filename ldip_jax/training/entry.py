"""How `train.py` meets the user: flags and a config file read without tracebacks, exit codes kept."""

import errno
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags, logging

from ldip_jax.errors import InputError


def run(main: Callable[[], int], argv: Sequence[str] | None = None) -> None:
    """Parse the flags, run `main` and end the process with its exit code; 2 for what the user can mend."""
    app.run(lambda _: sys.exit(_code(main)), argv=list(argv or sys.argv), flags_parser=_parse)


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


def _code(main: Callable[[], int]) -> int:
    try:
        return main()
    except InputError as error:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{sys.argv[0]}: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(
            f"{sys.argv[0]}: {error.filename or 'cannot write'}: no space left on the disk", file=sys.stderr
        )
        return 2


def _reason(text: str) -> str:
    """The first line of a message that says something, and the last, which may say why."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(dict.fromkeys([lines[0], lines[-1]])) if lines else "bad flags"


def _fail(message: str) -> None:
    print(f"{sys.argv[0]}: {message}", file=sys.stderr)
    sys.exit(2)
