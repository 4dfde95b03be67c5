"""Packets of a topic, as numpy columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from ayaflow.consume.fetched import Fetched
from ayaflow.consume.reading import Part, Reading, Resume, Span
from common.errors import DecodeError
from common.recent import Recent
from schemas.avro.arrow import flow_schema
from schemas.avro.codec import Codec
from schemas.avro.flow_encoder import arrow_column
from schemas.batches import Extent, RingId, check
from schemas.defaults import entry_values
from schemas.fields import KEYS, PACKET_COLUMNS, Kind
from schemas.packets import I32, I64, U8, U32, PacketBatch

MOST_RINGS = 1 << 14  # of a partition: those that were silent for longest are forgotten first


class Places:
    """How far the rings of a partition's nodes were read."""

    def __init__(self) -> None:
        self._rings: Recent[RingId, tuple[int, int | None]] = Recent(MOST_RINGS)

    def known(self, extent: Extent) -> int:
        """How many of a batch's entries came before, the first ones; it has come now. Raises DecodeError.

        As streams.partition.rings judges it.
        """
        extent.check()
        ring = RingId(extent.node, extent.ring_id)
        before = self._rings.get(ring)
        if before is None:  # from the ring's beginning there was no coalesced entry before
            self._rings.use(ring, (extent.end, extent.coalesced_end or (None if extent.start else 0)))
            return 0
        position, number = before
        known = 0
        if not extent.coalesced:
            known = extent.known(position)
        elif number is not None:
            known = extent.known(number)
        if extent.coalesced_end:
            number = max(number or 0, extent.coalesced_end)
        self._rings.use(ring, (max(position, extent.end), number))
        return known


@dataclass(frozen=True, kw_only=True, eq=False)
class PacketPart(Part):
    """Entries of packets: one is a packet, a super-packet, or packets that the kernel added up by flow.

    Each column has a value an entry; all are as the field of PacketBatch with that name says.
    """

    flow: I32  # place in `flows`
    time_ns: I64  # since the Unix epoch
    packets: I32
    bytes: I64
    tcp_flags: I32
    ttl: U8
    tos: U8
    segment_bytes: I32
    duration_ns: I64
    max_ttl: U8
    min_packet_bytes: U32
    max_packet_bytes: U32
    keys: Any  # of the flows, in memory

    def __len__(self) -> int:
        return len(self.flow)

    @cached_property
    def flows(self) -> pa.Table:
        """The flows of the entries, in one direction each: node, interface, direction, …, outer_dst_addr.

        A flow of several batches stands here several times, and one may have no entry.
        """
        schema = pa.schema([flow_schema().field(field.name) for field in KEYS])
        return pa.table([arrow_column(self.keys, field).cast(schema.field(field.name).type) for field in KEYS], schema)

    def table(self) -> pa.Table:
        """A row an entry: `time` (UTC, of nanoseconds), the columns of its flow, and its own."""
        moments = pa.array(self.time_ns).view(pa.timestamp("ns", tz="UTC"))
        of_flows = self.flows.take(pa.array(self.flow))
        own = {name: pa.array(getattr(self, name)) for name in _COLUMNS if name not in {"flow", "time_ns"}}
        return pa.table({"time": moments, **dict(zip(of_flows.column_names, of_flows.columns, strict=True)), **own})


_COLUMNS = {"flow": "<i4", "time_ns": "<i8", **{column.name: column.numpy for column in PACKET_COLUMNS}}
_FLOW_COLUMNS = tuple(field for field in KEYS if field.kind is not Kind.NAME)


class Packets(Reading[Places, PacketPart]):
    """Iterates over the packets of a topic, each of which comes once."""

    _MESSAGES = 16  # one may have megabytes

    def __init__(
        self,
        bootstrap_servers: str = "127.0.0.1:9092",
        *,
        group: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        late: timedelta | None = None,
        resume: Resume | None = None,
        topic: str = "ayaflow.packets",
        schema_registry: str | None = None,
        properties: Mapping[str, str] | None = None,
        primary_only: bool = True,
        remember: int = 10_000,
        timeout_seconds: float = 30.0,
    ) -> None:
        """As Flows. since, until: packets that were seen in [since, until), whenever they were sent. remember: messages
        that are read again when a partition is opened in the middle.
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

    def _memory(self) -> Places:
        return Places()

    def _part(self, fetched: Fetched[Places]) -> PacketPart:
        made = decoded(fetched, self._codec, self._span, primary_only=self._primary_only)
        return PacketPart(duplicates=made.duplicates, **made.columns, **self._of(fetched, made.problems))


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What is new in some messages."""

    columns: dict[str, Any]  # what a PacketPart has of entries and flows
    duplicates: int  # entries that came before
    problems: dict[int, str]  # number of a message that is none -> a sentence


def decoded(fetched: Fetched[Places], codec: Codec, span: Span, *, primary_only: bool) -> Decoded:
    """Decode messages of packets. Raises ServiceUnavailable, with nothing changed, when the registry is away."""
    batches: dict[int, PacketBatch] = {}
    problems: dict[int, str] = {}
    for number, value in enumerate(fetched.values):
        try:
            batch = codec.decode_packet_batch(value)
            check(batch)
        except DecodeError as error:
            problems[number] = str(error)
        else:
            batches[number] = batch
    begins = _begins(fetched, batches, problems)
    new = fetched.is_new()
    parts, duplicates = _Parts(), 0
    for number, begin in begins.items():
        if new[number]:
            duplicates += begin
            parts.add(batches[number], begin, span, primary_only=primary_only)
    return Decoded(parts.columns(), duplicates, problems)


def _begins(fetched: Fetched[Places], batches: Mapping[int, PacketBatch], problems: dict[int, str]) -> dict[int, int]:
    """Message -> its first entry that did not come before, in the order of the messages."""
    found = {}
    for stretch in fetched.stretches.values():
        for number in stretch.numbers.tolist():
            if number in batches:
                try:
                    found[number] = stretch.opened.memory.known(Extent.of(batches[number]))
                except DecodeError as error:
                    problems[number] = str(error)
    return dict(sorted(found.items()))


class _Parts:
    """Batches side by side."""

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []
        self._flows: list[dict[str, Any]] = []
        self._names: tuple[dict[str, int], dict[str, int]] = {}, {}  # of nodes, of interfaces
        self._count = 0  # flows

    def add(self, batch: PacketBatch, begin: int, span: Span, *, primary_only: bool) -> None:
        """The entries of a batch from `begin` on that are wanted."""
        columns = {"flow": batch.flow, "time_ns": batch.base_ns + batch.time_offset_ns, **entry_values(batch)}
        if begin:
            columns = {name: values[begin:] for name, values in columns.items()}
        wanted = _wanted(batch, columns, span, primary_only=primary_only)
        if wanted is not None:
            columns = {name: values[wanted] for name, values in columns.items()}
        if not len(columns["flow"]):
            return
        columns["flow"] = columns["flow"] + np.int32(self._count)
        nodes, interfaces = self._names
        places = [interfaces.setdefault(name, len(interfaces)) for name in batch.interface_names]
        keys = {field.name: getattr(batch.flows, field.name) for field in _FLOW_COLUMNS}
        keys["node"] = np.full(len(batch.flows), nodes.setdefault(batch.node, len(nodes)), np.int32)
        keys["interface"] = np.array(places, np.int32)[batch.flows.interface]
        self._entries.append(columns)
        self._flows.append(keys)
        self._count += len(batch.flows)

    def columns(self) -> dict[str, Any]:
        """What a PacketPart has of entries and flows."""
        nodes, interfaces = map(tuple, self._names)
        kinds = {
            field.name: np.dtype((field.type.numpy, 16) if field.kind is Kind.ADDRESS else field.type.numpy)
            for field in KEYS
        }
        keys = {name: _side_by_side([each[name] for each in self._flows], kind) for name, kind in kinds.items()}
        entries = {name: _side_by_side([each[name] for each in self._entries], kind) for name, kind in _COLUMNS.items()}
        return {**entries, "keys": SimpleNamespace(node_names=nodes, interface_names=interfaces, **keys)}


def _wanted(batch: PacketBatch, columns: Mapping[str, Any], span: Span, *, primary_only: bool) -> Any:
    """Which entries; None: all."""
    conditions = []
    if primary_only and not batch.flows.primary.all():
        conditions.append(batch.flows.primary.astype(np.bool_)[columns["flow"]])
    if span.since_ns is not None:
        conditions.append(columns["time_ns"] >= span.since_ns)
    if span.until_ns is not None:
        conditions.append(columns["time_ns"] < span.until_ns)
    return np.logical_and.reduce(conditions) if conditions else None


def _side_by_side(columns: Sequence[Any], kind: Any) -> Any:
    if len(columns) == 1:
        return columns[0]
    return np.concatenate(columns) if columns else np.zeros(0, kind)
