"""The one error a user can cause."""


class InputError(ValueError):
    """What the user gave is wrong: one line that says what came, what was wanted and what to do.

    The command line prints it without a traceback and exits with 2.
    """


SHOWN_BY_DEBUG = "(--debug shows where)"
"""The end of the one line that the command line makes of any other error, with which it exits with 2, too."""
