"""Errors in the input of a command."""


class CommandError(Exception):
    """Error in the input of a command: one line for standard error, and exit status 2."""
