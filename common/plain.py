"""Text of others where people read it: names of nodes and interfaces come from the wire. Pure."""

MOST_NAME = 64
"""Characters of a name in a table; host names have no more."""


def plain(text: str) -> str:
    """What can be printed; all else, controls of the terminal and of the direction of text, as `\\x1b`, `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def plain_lines(text: str) -> str:
    """The same for text of several lines, which it keeps."""
    return "\n".join(map(plain, text.split("\n")))


def short(name: str) -> str:
    """A name as a table has it: plain, and cut where it is long."""
    return plain(name if len(name) <= MOST_NAME else name[: MOST_NAME - 1] + "…")
