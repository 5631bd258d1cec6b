"""The one error a user can cause, and how far it reaches."""


class InputError(ValueError):
    """The user's input is wrong: one line that says what came, what was expected and what to do.

    The command line prints it without a traceback and exits with 2.
    """


class CaptionerError(InputError):
    """The captioner or its cache is unusable; reported once, not per image."""


def one_line(error: BaseException) -> str:
    """Return the error's message on one line."""
    return " ".join(str(error).split()) or type(error).__name__


SHOWN_BY_DEBUG = "(--debug shows where)"
"""The end of the one line that the command line prints for any other error, which also exits with 2."""
