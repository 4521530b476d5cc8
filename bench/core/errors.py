"""The error a user can mend."""


class InputError(ValueError):
    """Bad input: one sentence that names the argument, its value and the remedy. The command line prints it and exits with code 2."""
