"""One guard for everything that reads files from elsewhere: what a decoder raises is an error of the file."""

from collections.abc import Iterator
from contextlib import contextmanager

from ldip_jax.errors import InputError

LONGEST_REASON = 120


def printable(text: str, limit: int = LONGEST_REASON) -> str:
    """The beginning of `text`, safe to print: on one line, without control characters."""
    text = text[:limit]
    return text if text.isprintable() else ascii(text)[1:-1]


def reason(error: BaseException) -> str:
    """What an error of a decoder says, on one line, or its kind if it says nothing."""
    text = getattr(error, "strerror", None) or str(error)
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    return printable(lines[0]).rstrip(". ") if lines else type(error).__name__


@contextmanager
def reading(what: object, failure: str, remedy: str) -> Iterator[None]:
    """Turns any error of a decoder into an `InputError` about the file.

    On damaged files, decoders raise undocumented errors.

    Args:
        what: the file.
        failure: "cannot be read as an image".
        remedy: what to do then.

    Raises:
        InputError: anything was raised; an `InputError` stays as it is.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what}: {failure} ({reason(error)}); {remedy}") from error
