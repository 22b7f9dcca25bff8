"""The one kind of error that people cause, as against those that we cause; and how a command ends."""

DONE, FAILED, WRONG_INPUT, STOPPED_EARLY = 0, 1, 2, 75  # 75: run the same command again


class InputError(ValueError):
    """The user's input is wrong.

    The message is one line that names the key, the value and what to do. The command line
    prints it without a traceback and exits with code 2.
    """


class CommandError(Exception):
    """A command cannot go on, through no fault of its input: one line, exit code 1."""
