"""The one exception that means "the user can fix this"."""


class InputError(ValueError):
    """A file, flag, config or array from the user that cannot be used.

    The message is one line: it names the input, says what is wrong with it and how to go on. The command
    line prints it without a traceback and exits with code 2; the Python API raises it as it is.
    """
