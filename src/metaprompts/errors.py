"""The one error a user can cause, and how far it reaches."""


class InputError(ValueError):
    """What the user gave is wrong: one line that says what came, what was wanted and what to do.

    The command line prints it without a traceback and exits with 2.
    """


class CaptionerError(InputError):
    """The model that captions says nothing of any image, or nowhere can it be kept: told once, not for each."""


def one_line(error: BaseException) -> str:
    """Return the error's message on one line."""
    return " ".join(str(error).split()) or type(error).__name__


SHOWN_BY_DEBUG = "(--debug shows where)"
"""The end of the one line that the command line makes of any other error, with which it exits with 2, too."""
