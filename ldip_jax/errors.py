"""The one exception that means "the user can fix this", and what its messages are made of."""

from collections.abc import Sequence


class InputError(ValueError):
    """A file, flag, config or array from the user that cannot be used.

    The message is one line that names the input, says what is wrong and how to solve it. The command line
    prints it without a traceback and exits with code 2; the Python API raises it.
    """


def first_few(names: Sequence[str]) -> str:
    """The first few of many names, for a message of one line."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
