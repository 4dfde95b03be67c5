"""What is wrong with a filter, and where. Pure."""

import difflib

from common.errors import QueryError


class FilterError(QueryError):
    """A filter that is not understood. The message is one line; `caret` shows the place."""

    def __init__(self, found: str, *, text: str, column: int, why: str) -> None:
        super().__init__(f"filter, column {column}: {found}: {why}")
        self.column = column  # from 1
        self._text = text

    @property
    def caret(self) -> str:
        """The filter and a mark below the column; two lines, at most 100 characters of it; empty for no text."""
        if not self._text.strip():
            return ""
        start = max(0, self.column - 60)
        line = "".join(char if char.isprintable() else " " for char in self._text[start : start + 100])
        return f"  {line}\n  {' ' * (self.column - 1 - start)}^"


def nearest(word: str, known: list[str]) -> str:
    """`; did you mean …?`, or the words there are."""
    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f": {', '.join(known)}"
