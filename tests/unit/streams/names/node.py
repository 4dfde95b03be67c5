"""A node that sees questions and answers: its ring of copies, and a producer that reads it and may be killed."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schemas.names import NAME_COLUMNS, NAME_KINDS, NAME_STATUSES, NameBatch, no_rows

START = 1_800_000_000
SECOND = 1_000_000_000
COPY = 128  # octets of the ring


@dataclass(frozen=True)
class Copy:
    """One packet's beginning: of a question, an answer, or of nothing."""

    what: str  # ask, answer, noise
    number: int  # of the transaction
    epoch: int


@dataclass
class Node:
    """Its ring is only ever added to. `place`: up to where the producer's messages were acknowledged."""

    name: str = "n1"
    ring_id: int = 7
    ring: list[Copy] = field(default_factory=list)
    place: int = 0
    read: int = 0
    sequence: int = 0
    asked: set[int] = field(default_factory=set)  # open questions that this run knows
    numbers: int = 0

    def ask(self, *, epoch: int = 1, answered: bool = True) -> int:
        """A transaction."""
        self.numbers += 1
        self.ring.append(Copy("ask", self.numbers, epoch))
        if answered:
            self.answer(self.numbers, epoch=epoch)
        return self.numbers

    def answer(self, number: int, *, epoch: int = 1) -> None:
        self.ring.append(Copy("answer", number, epoch))

    def noise(self, *, epoch: int = 1) -> None:
        self.ring.append(Copy("noise", 0, epoch))

    @property
    def copied(self) -> Counter[int]:
        """The kernel's counters."""
        return Counter(copy.epoch for copy in self.ring)

    def kill(self) -> None:
        """A new run begins where the last one's messages were acknowledged, and knows nothing."""
        self.read, self.sequence, self.asked = self.place, 0, set()

    def acknowledge(self) -> None:
        """All that was sent is in Kafka, and the node knows it."""
        self.place = self.read

    def send(self, *, expire: bool = False, second: float = 0.0) -> NameBatch:
        """What there is, as a message. `expire`: of open questions, too."""
        start, copies = self.read, self.ring[self.read :]
        rows: list[dict[str, Any]] = []
        unused = 0
        for place, copy in enumerate(copies):
            if copy.what == "noise":
                unused += 1
            elif copy.what == "ask":
                self.asked.add(copy.number)
            else:
                known = copy.number in self.asked
                self.asked.discard(copy.number)
                rows.append(
                    _row(copy.number, place * COPY, copies=1 + known, rcode=0, latency_us=1000 if known else -1)
                )
        if expire:
            rows += [_row(number, max(0, len(copies) * COPY - 1), copies=1) for number in sorted(self.asked)]
            self.asked.clear()
        self.read = len(self.ring)
        self.sequence += 1
        epochs = Counter(copy.epoch for copy in copies)
        return batch(
            rows,
            node=self.name,
            ring_id=self.ring_id,
            ring_start=start * COPY,
            ring_end=self.read * COPY,
            sequence=self.sequence - 1,
            copies=len(copies),
            open_copies=len(self.asked),
            unused_copies=unused,
            epoch=np.array(list(epochs), np.int64),
            epoch_copies=np.array(list(epochs.values()), np.int64),
            base_ns=START * SECOND + int(second * SECOND),
        )


def _row(number: int, ring_offset: int, **more: Any) -> dict[str, Any]:
    return {"name": f"host{number}.example", "ring_offset": ring_offset, "row_copies": more.pop("copies"), **more}


def batch(rows: list[dict[str, Any]], **members: Any) -> NameBatch:
    """A message of rows that name what is not as usual; `name`, `client`, `server`, `answers` are texts and octets."""
    names = tuple(dict.fromkeys(row["name"] for row in rows if row.get("name")))
    answers = tuple(dict.fromkeys(row["answers"] for row in rows if row.get("answers")))
    usual: dict[str, Any] = {
        "kind": NAME_KINDS.index("dns"), "status": NAME_STATUSES.index("named"), "protocol": 17, "client_port": 40_000,
        "server_port": 53, "qtype": 1, "rcode": -1, "latency_us": -1, "ja4": -1, "alpn": -1,
        "row_count": 1, "row_copies": 2,
    }  # fmt: skip
    columns = no_rows()
    for column in NAME_COLUMNS:
        values = [row.get(column.name, usual.get(column.name, 0)) for row in rows]
        if column.name == "name":
            values = [names.index(row["name"]) if row.get("name") else -1 for row in rows]
        if column.name == "answers":
            values = [answers.index(row["answers"]) if row.get("answers") else -1 for row in rows]
        columns[column.name] = np.array(values, column.numpy)
    client, server = (np.array([[0] * 10 + [255, 255, 10, 0, 0, last]], np.uint8) for last in (1, 53))
    usual_members: dict[str, Any] = {
        "node": "n1", "ring_id": 7, "ring_start": 0, "ring_end": 1 << 20, "sequence": 0, "clock_ns": START * SECOND,
        "base_ns": START * SECOND, "copies": 0, "open_copies": 0, "unused_copies": 0, "epoch": np.zeros(0, np.int64),
        "epoch_copies": np.zeros(0, np.int64), "interface_names": ("eth0",), "names": names, "clients": client,
        "servers": server, "answer_sets": answers, "ja4s": (), "alpns": (),
    }  # fmt: skip
    return NameBatch(**usual_members | members, **columns)
