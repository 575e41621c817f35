"""Types of arguments that several commands take."""

import argparse
from collections.abc import Callable
from pathlib import Path


def count(least: int) -> Callable[[str], int]:
    """A whole number of at least `least`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return parse


def file_or_folder(text: str) -> Path:
    """A path; nothing at all is no path, and not the current folder either."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; name a file or folder")
    return Path(text)
