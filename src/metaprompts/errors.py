"""The exception for user errors."""


class InputError(ValueError):
    """The user's input is wrong. The message is one line with the actual value, the expected value and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """


class CaptionerError(InputError):
    """The captioner or its cache is unusable; reported once, not per image."""


def one_line(error: BaseException) -> str:
    """Return the error's message on one line."""
    return " ".join(str(error).split()) or type(error).__name__


SHOWN_BY_DEBUG = "(--debug shows where)"
"""The end of the line printed for any other error."""
