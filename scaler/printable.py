"""Makes text from outside safe to print."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return a text with its unprintable characters escaped, as Python does.

    An escape character shows as a code, so that no text can move a terminal's cursor or hide a part of a line.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
