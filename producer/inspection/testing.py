"""A ring of copies in memory, a reader that takes each copy for a name, and what knows them. Each obeys the Protocol
that it names.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from producer.kernel.abi import COPY
from producer.kernel.ring import Copies
from producer.names.columns import BLANK, ROW, Names, no_names
from producer.names.join import FlowNames
from schemas.packets import I64

_HEADER_BYTES = 8


@dataclass
class MemoryCopies:
    """Obeys producer.inspection.inspection.CopyReader."""

    size: int = 1 << 16
    all: list[tuple[int, np.void, bytes]] = field(default_factory=list)  # where it begins, its head, its payload
    end: int = 0
    released: int = 0
    at_a_time: int = 100

    def put(self, payload: bytes, **fields: Any) -> None:
        """The kernel program submits a copy."""
        head = np.zeros(1, COPY)
        fields = {"copied": len(payload), "payload_bytes": len(payload), "epoch": 1, "slot": 3} | fields
        for name, value in fields.items():
            head[name] = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value
        self.all.append((self.end, head[0], payload))
        self.end += _HEADER_BYTES + COPY.itemsize + len(payload) + -len(payload) % 8

    def producer_position(self) -> int:
        return self.end

    def read(self, position: int, limit: int) -> Copies:
        assert self.released <= position
        assert limit <= self.end
        found = [each for each in self.all if position <= each[0] < limit][: self.at_a_time]
        ends = [each[0] for each in self.all if each[0] > found[-1][0]] if found else []
        octets = b"".join(payload for *_, payload in found)
        lengths = np.array([len(payload) for *_, payload in found], np.int64)
        return Copies(
            start=position,
            end=min(ends, default=self.end),
            heads=np.array([head for _, head, _ in found], COPY),
            octets=memoryview(octets),
            offsets=np.cumsum(lengths) - lengths,
            places=np.array([place for place, *_ in found], np.int64),
        )

    def release(self, position: int) -> None:
        assert self.released <= position <= self.end
        assert position == self.end or position in {place for place, *_ in self.all}
        self.released = position


class MemoryReader:
    """Obeys producer.inspection.reading.Reader: a payload is a name, `?NAME` one that waits for a second.

    Nothing is unused, and `!` is a fault.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[int, str]] = []
        self.unused = 0
        self.discarded = Counter[str]()

    @property
    def open(self) -> int:
        return len(self.waiting)

    def read(self, heads: Any, payload: memoryview, offsets: I64) -> Names:
        rows, names = [], list[str]()
        for number, (head, begin) in enumerate(zip(heads, offsets.tolist(), strict=True)):
            text = bytes(payload[begin : begin + int(head["copied"])]).decode()
            if text.startswith("?"):
                self.waiting.append((int(head["ktime_ns"]), text[1:]))
            elif text == "!":
                raise OSError("a fault")
            elif text:
                rows.append(self._row(head["ktime_ns"], len(names), copy=number, slot=head["slot"]))
                names.append(text)
            else:
                self.unused += 1
        return _names(rows, names)

    def expire(self, now_ns: int) -> Names:
        late = [each for each in self.waiting if each[0] + 1_000_000_000 <= now_ns]
        self.waiting = [each for each in self.waiting if each not in late]
        rows = [self._row(time_ns, number, copy=-1, slot=3) for number, (time_ns, _) in enumerate(late)]
        return _names(rows, [name for _, name in late])

    @staticmethod
    def _row(time_ns: int, name: int, *, copy: int, slot: int) -> np.ndarray[Any, Any]:
        row = BLANK.reshape(1).copy()
        row["time_ns"], row["name"], row["copy"], row["copies"], row["interface"] = time_ns, name, copy, 1, slot
        return row


class MemoryTable:
    """Obeys producer.inspection.flow_names.Table: a flow has the newest name that was read before its last packet."""

    def __init__(self) -> None:
        self.known: list[tuple[int, str]] = []  # when it was read
        self.asked: list[dict[str, Any]] = []

    def learn(self, names: Names) -> None:
        times, places = names.rows["time_ns"].tolist(), names.rows["name"].tolist()
        self.known += [(time_ns, names.names[place]) for time_ns, place in zip(times, places, strict=True)]

    def of_flows(self, **columns: Any) -> FlowNames:
        self.asked.append(columns)
        last = columns["last_ns"].tolist()
        found = [max((each for each in self.known if each[0] <= time_ns), default=(0, ""))[1] for time_ns in last]
        domains = sorted({name for name in found if name})
        places = np.array([domains.index(name) if name else -1 for name in found], np.int32)
        none, has = np.full(len(found), -1, np.int32), places >= 0
        return FlowNames(
            domains=domains,
            flow_domain=places,
            flow_domain_source=4 * has.astype(np.uint8),
            flow_domain_count=has.astype(np.uint16),
            ja4s=[],
            flow_ja4=none,
            alpns=[],
            flow_alpn=none,
        )


class MemoryRedaction:
    """Obeys producer.inspection.reading.Hides: what has `secret` in it becomes `hidden`."""

    def names(self, names: Names) -> Names:
        return names._replace(names=self._hidden(names.names))

    def flows(self, found: FlowNames) -> FlowNames:
        return found._replace(domains=self._hidden(found.domains))

    @staticmethod
    def _hidden(names: Sequence[str]) -> list[str]:
        return ["hidden" if "secret" in name else name for name in names]


def _names(rows: list[Any], names: list[str]) -> Names:
    return no_names()._replace(rows=np.concatenate([np.zeros(0, ROW), *rows]), names=names)
