"""Text of others on a terminal: names of nodes and interfaces come from the wire. Pure."""


def plain(text: str) -> str:
    """What can be printed; all else, controls of the terminal and of the direction of text, as `\\x1b`, `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
