"""Flow records of a topic, as Arrow tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ayaflow.consume import identities
from ayaflow.consume.fetched import Fetched
from ayaflow.consume.identities import Seen
from ayaflow.consume.reading import Part, Reading, Resume, Span

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlowPart(Part):
    """Flow records, each record_id once."""

    table: pa.Table  # FlowRecord's columns; times are UTC

    def __len__(self) -> int:
        return len(self.table)


class Flows(Reading[Seen, FlowPart]):
    """Iterates over the flow records of a topic, each of which comes once."""

    _MESSAGES = 65_536

    def __init__(
        self,
        bootstrap_servers: str = "127.0.0.1:9092",
        *,
        group: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        late: timedelta | None = None,
        resume: Resume | None = None,
        topic: str = "ayaflow.flows",
        schema_registry: str | None = None,
        properties: Mapping[str, str] | None = None,
        primary_only: bool = True,
        remember: int = 1_000_000,
        timeout_seconds: float = 30.0,
    ) -> None:
        """Nothing is asked of Kafka before the first part is.

        group: a consumer group, which shares the partitions among its members and keeps the offsets that are committed;
            it begins with what there is (or `since`), goes on where it was, and has no end.
        since, until: windows that begin in [since, until), with a time zone. Without a group a range that ends with
            what is in the topic when it is opened.
        late: of a range, how long after `until` a record may have been sent that is still looked for. None: all that
            is there is looked through, so that no late record is missed.
        resume: instead of a group's offsets, those that you keep; see docs/consumers/python-library.md.
        schema_registry: its URL, where ayaflow has the setting schema_registry.url.
        properties: more for librdkafka, such as security.protocol.
        primary_only: leave out what totals are not to count, passages of packets that are counted on another
            interface; a sum over all rows is then a true total.
        remember: records of a partition between two of one record_id of which the second is known. So many messages
            are read again when a partition is opened in the middle.
        timeout_seconds: for which Kafka or the registry may be silent before that is an error.

        Raises SettingsError.
        """
        super().__init__(
            bootstrap_servers,
            topic,
            group=group,
            since=since,
            until=until,
            late=late,
            resume=resume,
            schema_registry=schema_registry,
            properties=properties,
            primary_only=primary_only,
            remember=remember,
            timeout_seconds=timeout_seconds,
        )

    def _memory(self) -> Seen:
        return identities.seen(self._remember)

    def _part(self, fetched: Fetched[Seen]) -> FlowPart:
        decoded = self._codec.decode_flow_records(fetched.values)
        rows, numbers = decoded.rows, decoded.numbers
        wanted = chosen(rows, self._span, primary_only=self._primary_only)
        new = wanted & fetched.is_new()[numbers]
        fresh = new & _first(rows, numbers, wanted, fetched)
        table = pa.Table.from_batches([rows])
        if not fresh.all():
            table = table.filter(pa.array(fresh))
        duplicates = int(np.count_nonzero(new)) - len(table)
        return FlowPart(table=table, duplicates=duplicates, **self._of(fetched, decoded.problems))


def _first(rows: pa.RecordBatch, numbers: npt.NDArray[np.int64], wanted: Mask, fetched: Fetched[Seen]) -> Mask:
    """Which of the rows did not come before; those without an identity never did."""
    named = np.asarray(pc.not_equal(rows["record_id"], ""))
    known = wanted & named
    result = ~named
    of_rows = identities.of_texts(rows["record_id"])
    row_of = np.full(len(fetched.values), -1, np.int64)
    row_of[numbers] = np.arange(len(numbers))
    for stretch in fetched.stretches.values():
        places = row_of[stretch.numbers]
        places = places[places >= 0]
        places = places[known[places]]
        result[places] = stretch.opened.memory.fresh(of_rows[places])
    return result


def chosen(rows: pa.RecordBatch, span: Span, *, primary_only: bool) -> Mask:
    """Which rows are of windows of a span, and, if that is wanted, primary."""
    result = np.ones(len(rows), np.bool_)
    if primary_only:
        result &= rows["primary"].to_numpy(zero_copy_only=False)
    begin = rows["window_begin"].cast(pa.int64()).to_numpy(zero_copy_only=False)
    if span.since_ns is not None:
        result &= begin >= span.since_ns // 1000
    if span.until_ns is not None:
        result &= begin < span.until_ns // 1000
    return result
