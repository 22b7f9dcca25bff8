"""The one kind of error that people cause, as against those that we cause; and how a command ends."""

import errno

DONE, FAILED, WRONG_INPUT, STOPPED_EARLY = 0, 1, 2, 75  # 75: run the same command again


class InputError(ValueError):
    """The user's input is wrong.

    The message is one line that names the key, the value and what to do. The command line
    prints it without a traceback and exits with code 2.
    """


class CommandError(Exception):
    """A command cannot go on, through no fault of its input: one line, exit code 1."""


_WRONG_PATH = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM}
_WRONG_PATH |= {errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}


def kind_of(error: OSError) -> type[InputError] | type[CommandError]:
    """Which of both a path is refused with: InputError where it is wrong itself, CommandError where a start
    later may find it well, as after a full disk or with a file server that did not answer."""
    missing = isinstance(error, FileNotFoundError)  # of a bucket that is not there too, without a number
    return InputError if missing or error.errno in _WRONG_PATH else CommandError
