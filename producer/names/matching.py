"""DNS queries and their answers: which belong together, and how long it took. Pure: the clock is that of the copies."""

import secrets
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from producer.names.columns import BLANK, NAMED, NONE, ROW, Names, Rows, chosen, no_names, put_together

_MIX = np.array([secrets.randbits(64) | 1 for _ in range(7)], np.uint64)
_SHIFT = np.uint64(32)


class Asked(NamedTuple):
    """Queries that wait for their answers, oldest first."""

    keys: npt.NDArray[np.uint64]
    rows: Rows
    names: npt.NDArray[np.object_]


class Matched(NamedTuple):
    """What came of a batch."""

    rows: npt.NDArray[np.int64]  # of the batch's rows, those that stand for a transaction: its answer
    latency_us: npt.NDArray[np.int64]  # of each; NONE without a query
    copies: npt.NDArray[np.int64]  # of the queries of each
    unused: int  # copies that came twice


def keys(rows: Rows, ids: npt.NDArray[np.uint16], name_hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """What a query and its answer have in common: 64 bits of it, by a key that nobody outside knows."""
    ports = rows["client_port"].astype(np.uint64) << np.uint64(48) | rows["server_port"].astype(np.uint64) << _SHIFT
    ports |= rows["protocol"].astype(np.uint64) << np.uint64(16) | ids
    ends = np.concatenate([rows["client"], rows["server"]], axis=1).view(np.uint64)
    words = [*ends.T, ports, name_hashes, rows["qtype"].astype(np.uint64)]
    found = np.zeros(len(rows), np.uint64)
    for word, odd in zip(words, _MIX, strict=True):
        found = (found ^ word) * odd
        found ^= found >> _SHIFT
    return found


class Transactions:
    """At most `most` queries, of which none is older than `patience_ns`."""

    def __init__(self, most: int, patience_ns: int) -> None:
        self._most, self._patience_ns = most, patience_ns
        self._asked = Asked(np.zeros(0, np.uint64), np.zeros(0, ROW), np.zeros(0, np.object_))

    def __len__(self) -> int:
        return len(self._asked.keys)

    @property
    def copies(self) -> int:
        """Of all that wait."""
        return int(self._asked.rows["copies"].sum())

    def match(self, batch: Asked, is_response: npt.NDArray[np.bool_]) -> Matched:
        """Queries and answers as they came; of what was asked several times, the first counts.

        Queries are kept until they are answered or expire.
        """
        kept, count = len(self), len(batch.keys)
        all_keys = np.concatenate([self._asked.keys, batch.keys])
        answers = np.concatenate([np.zeros(kept, np.bool_), is_response])
        order = np.argsort(all_keys, kind="stable")
        ordered, is_answer = all_keys[order], answers[order]
        begins = np.ones(kept + count, np.bool_)  # a run: queries, or answers, of one key behind each other
        begins[1:] = (ordered[1:] != ordered[:-1]) | (is_answer[1:] != is_answer[:-1])
        firsts = np.flatnonzero(begins)
        is_same = np.zeros(len(firsts), np.bool_)  # key as that of the run before
        is_same[1:] = ordered[firsts[1:]] == ordered[firsts[1:] - 1]
        last = np.r_[firsts[1:], kept + count] - 1

        times = np.concatenate([self._asked.rows["time_ns"], batch.rows["time_ns"]])
        copies = np.concatenate([self._asked.rows["copies"], batch.rows["copies"]])
        counted = np.r_[0, np.cumsum(copies[order])]
        answer_runs = np.flatnonzero(is_answer[firsts])
        asked = answer_runs[is_same[answer_runs]]  # those behind a run of queries
        places = order[firsts[answer_runs]]
        latency = np.full(kept + count, NONE, np.int64)
        query_copies = np.zeros(kept + count, np.int64)
        query, answer = order[firsts[asked - 1]], order[firsts[asked]]
        waited = np.maximum(times[answer] - times[query], 0)  # CPUs are not in each other's order to the microsecond
        latency[answer] = np.where(waited <= self._patience_ns, waited // 1000, NONE)
        query_copies[answer] = copies[query]
        repeated = int(
            (counted[last[answer_runs] + 1] - counted[firsts[answer_runs] + 1]).sum()
            + (counted[last[asked - 1] + 1] - counted[firsts[asked - 1] + 1]).sum()
        )
        waiting = np.flatnonzero(~is_answer[firsts])
        waiting = waiting[~np.r_[is_same[1:], False][waiting]]
        repeated += int((counted[last[waiting] + 1] - counted[firsts[waiting] + 1]).sum())
        self._keep(batch, np.sort(order[firsts[waiting]]), kept)
        found = np.sort(places)
        return Matched(found - kept, latency[found], query_copies[found], repeated)

    def _keep(self, batch: Asked, places: npt.NDArray[np.int64], kept: int) -> None:
        old, new = places[places < kept], places[places >= kept] - kept
        self._asked = Asked(
            np.concatenate([self._asked.keys[old], batch.keys[new]]),
            put_together([chosen(self._asked.rows, old), chosen(batch.rows, new)]),
            np.concatenate([self._asked.names[old], batch.names[new]]),
        )

    def expire(self, now_ns: int) -> tuple[Names, int]:
        """Those that waited too long, and the oldest of those that are too many; and how many these were."""
        count = len(self)
        late = self._asked.rows["time_ns"] < now_ns - self._patience_ns
        surplus = count - int(late.sum()) - self._most
        if surplus > 0:
            late[np.flatnonzero(~late)[:surplus]] = True
        if not late.any():
            return no_names(), 0
        rows, names = chosen(self._asked.rows, late), self._asked.names[late].tolist()
        self._asked = Asked(self._asked.keys[~late], chosen(self._asked.rows, ~late), self._asked.names[~late])
        rows["copy"] = BLANK["copy"]
        rows["status"] = NAMED
        known: dict[str, int] = {}
        rows["name"] = [known.setdefault(name, len(known)) for name in names]
        return no_names()._replace(rows=rows, names=[*known]), max(0, surplus)
