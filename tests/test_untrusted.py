"""Whatever a decoder raises is reported as an error in the file, in one line."""

import tokenize

import pytest

from ldip_jax.errors import InputError
from ldip_jax.untrusted import reading, reason


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("Failed to decode frame 0: Truncated data."),
            "Failed to decode frame 0: Truncated data",
        ),
        (
            tokenize.TokenError("EOF in statement", (2, 0)),
            "('EOF in statement', (2, 0))",
        ),
        (NotImplementedError("compression type 97"), "compression type 97"),
        (ValueError("\n\n first line\nsecond line"), "first line"),
        (ValueError("\x1b[2J"), r"\x1b[2J"),
        (OSError(28, "No space left on device", "a"), "No space left on device"),
        (KeyError(), "KeyError"),
        (MemoryError(), "MemoryError"),
        (ValueError("x" * 1000), "x" * 120),
    ],
)
def test_any_error_is_one_line_about_the_file(error, message):
    assert reason(error) == message
    with pytest.raises(InputError) as caught, reading("a.png", "cannot be read", "get it again"):
        raise error
    assert str(caught.value) == f"a.png: cannot be read ({message}); get it again"


def test_interruptions_and_input_errors_are_raised_unchanged():
    with pytest.raises(KeyboardInterrupt), reading("a", "b", "c"):
        raise KeyboardInterrupt
    with pytest.raises(InputError, match=r"^as it is$"), reading("a", "b", "c"):
        raise InputError("as it is")
