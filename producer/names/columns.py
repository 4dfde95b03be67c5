"""Names as columns: a row a DNS transaction, handshake or request. Pure."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.names import ECH, NAME_KINDS, NAME_STATUSES

DNS, MDNS, LLMNR, TLS, QUIC, HTTP = range(len(NAME_KINDS))
"""Places in schemas.names.NAME_KINDS."""
NAMED, INCOMPLETE, MALFORMED, ENCRYPTED, NAMELESS = range(len(NAME_STATUSES))
"""Places in schemas.names.NAME_STATUSES: named; its name was cut off or never came; it cannot be what it looked like;
the name is in an encrypted hello, and what stands in the clear is another's; read whole, and has no name."""
NO_ECH, OFFERED_ECH, REAL_ECH = range(len(ECH))
"""Places in schemas.names.ECH. offered: real or GREASE, which are made to look alike; real: by the configuration that
DNS gave out, or by a name that only stands for others."""

NONE = -1
"""Of an index: there is none. Of rcode and latency_us: no answer, no query was seen."""

ROW = np.dtype(
    [
        ("time_ns", "=i8"),  # ktime of the answer, of the hello's last part; without an answer of the query
        ("flow_hash", "=u8"),  # of that copy's flow
        ("client", "u1", 16),
        ("server", "u1", 16),
        ("client_port", "=u2"),
        ("server_port", "=u2"),
        ("protocol", "u1"),
        ("kind", "u1"),  # place in NAME_KINDS
        ("status", "u1"),  # place in NAME_STATUSES
        ("ech", "u1"),  # place in ECH
        ("method", "u1"),  # place in http.METHODS
        ("direction", "u1"),  # of that copy, as `interface`
        ("interface", "=u2"),  # slot
        ("name", "=i4"),  # in names
        ("qtype", "=i4"),  # 0 of what is not DNS
        ("rcode", "=i2"),
        ("latency_us", "=i8"),
        ("ttl", "=i8"),  # seconds
        ("answers", "=i4"),  # in answer_sets
        ("alpn", "=i4"),  # in alpns
        ("ja4", "=i4"),  # in ja4s
        ("count", "=i4"),  # transactions
        ("copies", "=i4"),  # of which it was made; 0: further questions of a message that has a row
        ("copy", "=i4"),  # the last of these in this read, NONE: of an earlier one
    ]
)
Rows = npt.NDArray[np.void]

OPAQUE = np.dtype((np.void, ROW.itemsize))
"""A row that numpy does not look into."""

BLANK = np.zeros((), ROW)
"""A row of nothing yet."""
for _index in ("name", "answers", "alpn", "ja4", "copy", "latency_us", "rcode"):
    BLANK[_index] = NONE
BLANK["count"] = 1


def chosen(rows: Rows, which: Any) -> Rows:
    """A copy of these rows, of any struct: without looking into them, which takes numpy a fifth of the time."""
    found: Rows = rows.view(np.dtype((np.void, rows.itemsize)))[which].view(rows.dtype)
    return found


def alone(row: Rows) -> Rows:
    """A copy of this row that keeps no others in memory."""
    found: Rows = row.view(np.dtype((np.void, row.itemsize))).copy().view(row.dtype)
    return found


def put_together(parts: Sequence[Rows]) -> Rows:
    """All rows of a struct, in their order; likewise."""
    dtype = parts[0].dtype
    opaque = np.dtype((np.void, dtype.itemsize))
    found: Rows = np.concatenate([part.view(opaque) for part in parts]).view(dtype)
    return found


class Names(NamedTuple):
    """n rows, and what they refer to."""

    rows: Rows  # (n,) of ROW
    names: list[str]
    answer_sets: list[tuple[str, ...]]
    alpns: list[str]
    ja4s: list[str]
    address: npt.NDArray[np.uint8]  # (m, 16), those that answers gave
    address_row: npt.NDArray[np.int64]  # (m,) the row of each


def no_names() -> Names:
    """Without a row."""
    return Names(np.zeros(0, ROW), [], [], [], [], np.zeros((0, 16), np.uint8), np.zeros(0, np.int64))


def joined(parts: Sequence[Names]) -> Names:
    """All rows, in their order."""
    parts = [part for part in parts if len(part.rows)]
    if len(parts) <= 1:
        return parts[0] if parts else no_names()
    rows = put_together([part.rows for part in parts])
    texts: dict[str, list[Any]] = {"names": [], "answer_sets": [], "alpns": [], "ja4s": []}
    address_rows = []
    begin = 0
    for part in parts:
        end = begin + len(part.rows)
        for index, where in (("name", "names"), ("answers", "answer_sets"), ("alpn", "alpns"), ("ja4", "ja4s")):
            column = rows[index][begin:end]
            column[column >= 0] += len(texts[where])
        for where, found in texts.items():
            found.extend(getattr(part, where))
        address_rows.append(part.address_row + begin)
        begin = end
    return Names(
        rows,
        texts["names"],
        texts["answer_sets"],
        texts["alpns"],
        texts["ja4s"],
        np.concatenate([part.address for part in parts]),
        np.concatenate(address_rows),
    )


class Collected:
    """Rows that are found one by one."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets all."""
        self._rows: list[Rows] = []
        self._names: dict[str, int] = {}
        self._alpns: dict[str, int] = {}
        self._ja4s: dict[str, int] = {}

    def add(self, row: Rows, *, name: str = "", alpn: str = "", ja4: str = "") -> None:
        """A row of shape (1,)."""
        for index, text, known in (("name", name, self._names), ("alpn", alpn, self._alpns), ("ja4", ja4, self._ja4s)):
            if text:
                row[index] = known.setdefault(text, len(known))
        self._rows.append(row)

    def names(self) -> Names:
        """All that came."""
        if not self._rows:
            return no_names()
        rows = put_together(self._rows)
        return no_names()._replace(rows=rows, names=[*self._names], alpns=[*self._alpns], ja4s=[*self._ja4s])
