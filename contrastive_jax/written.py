"""Text that comes from data, as terminals and files can take it."""

import re

# Control characters, which can move a terminal's cursor, and marks that turn the direction of what follows.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def encodable(text: str) -> str:
    """The text with an escape, as \\udc80, for each half of a character, of which UTF-8 knows none."""
    return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    """The text as one line that prints as it reads: line feeds, control characters and the like escaped."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), encodable(text))
