"""Names of interfaces and network namespaces as they are shown: the kernel takes nearly any octets. Pure.

What is shown is text that can be printed, of a bounded length, and two names are never shown alike: an octet that is
no UTF-8 or of what cannot be printed is `\\xNN`, a backslash is two; of a namespace's name that is too long the end is
`\\~` and a digest of all of it.
"""

import hashlib
from collections.abc import Iterator

MOST_OCTETS = 120
"""Of NAMESPACE/INTERFACE in UTF-8: so many are kept in the kernel for the producer that comes next."""
_DIGEST = 16  # hexadecimal digits


def shown(octets: bytes) -> str:
    """The name of an interface (at most 15 octets), or of a namespace."""
    return "".join(_letters(octets))


def shown_in(namespace: bytes, interface: str) -> str:
    """NAMESPACE/INTERFACE, of an interface that is `shown`. The last `/` is the one between them."""
    return f"{_cut(list(_letters(namespace)), MOST_OCTETS - 1 - len(interface.encode()))}/{interface}"


def _cut(letters: list[str], most: int) -> str:
    if len("".join(letters).encode()) <= most:
        return "".join(letters)
    mark = "\\~" + hashlib.sha256("".join(letters).encode()).hexdigest()[:_DIGEST]
    kept, left = [], most - len(mark)
    for letter in letters:
        left -= len(letter.encode())
        if left < 0:
            break
        kept.append(letter)
    return "".join(kept) + mark


def _letters(octets: bytes) -> Iterator[str]:
    for letter in octets.decode("utf-8", "surrogateescape"):
        if letter == "\\":
            yield "\\\\"
        elif letter.isprintable():
            yield letter
        else:
            yield "".join(f"\\x{octet:02x}" for octet in letter.encode("utf-8", "surrogateescape"))
