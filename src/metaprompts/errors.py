"""The one error a user can cause."""


class InputError(ValueError):
    """What the user gave is wrong: one line that says what came, what was wanted and what to do.

    The command line prints it without a traceback and exits with 2.
    """
