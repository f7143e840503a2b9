"""The one error that a user's input can cause."""


class WrnnError(ValueError):
    """Bad input: one line that says what was wrong and what is allowed.

    The command line prints it to stderr and ends with exit status 2.
    """
