"""A PacketBatch to messages, without Arrow: a process on each node saves 50 MB.

What is written, and in which order, is what the newest .avsc files say: a field is the member of the same name of
schemas.packets.PacketBatch, `flow_NAME` that of FlowKeys, `counter_NAME` that of EpochCounters; where the member is
NAME_ns, NAME_us has it in whole microseconds. A field without such a member fails when the encoder is made.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from schemas.avro import native, plain
from schemas.avro.columns import Column, addresses, booleans, choices, distinct, long, longs, same, string
from schemas.avro.registry import HEADER, Registry, newest
from schemas.defaults import entry_values
from schemas.fields import KEYS, NAMED, Field, Kind
from schemas.packets import EpochCounters, FlowKeys, PacketBatch, PacketEvents

FlowColumn = Callable[[FlowKeys, tuple[str, ...]], Column]
Octets = Callable[[PacketBatch], bytes]
Array = Callable[[PacketBatch], tuple[Column, int]]
"""A column, and how many items it has."""

_FLOW, _COUNTER, _MICROS = "flow_", "counter_", "_us"
_KEYS = {field.name: field for field in KEYS}
_SOURCES = {field.name: field.choices for field in NAMED if field.choices}
_LISTS = ("domains", "ja4s", "alpns")
_NAMES = frozenset({*_LISTS, *(f"{_FLOW}{field.name}" for field in NAMED)})


class _Named(tuple[Array, ...]):
    """Columns of names, which are empty in most batches, and then cost nothing."""

    __slots__ = ()


class Writer(Protocol):
    """schemas.avro.native or schemas.avro.plain."""

    def rows(
        self, columns: Sequence[Column], count: int, ends: npt.NDArray[np.int64] | None = None
    ) -> bytes | memoryview:
        """The bytes of `count` records, from their columns. `ends`: gets where each of them ends."""

    def arrays(self, columns: Sequence[tuple[Column, int]]) -> bytes | memoryview:
        """Each column as an array of so many items."""


def fastest() -> Writer:
    """What was compiled, where it was."""
    return native if native.IS_COMPILED else plain


class BatchEncoder:
    """Encodes batches with the schema id that the registry gives."""

    def __init__(self, registry: Registry, writer: Writer | None = None) -> None:
        """`writer`: None is the compiled one where there is one."""
        self._registry, self._parts = registry, _plan()
        self._writer = writer or fastest()

    def encode(self, batch: PacketBatch) -> bytes:
        """One message. Raises ServiceUnavailable when the registry is away the first time."""
        found: list[bytes | memoryview] = [HEADER.pack(0, self._registry.schema_id("PacketBatch"))]
        for parts in self._parts:
            if isinstance(parts, _Named) and not batch.named:
                found.append(bytes(len(parts)))
            elif isinstance(parts, tuple):
                found.append(self._writer.arrays([array(batch) for array in parts]))
            else:
                found.append(parts(batch))
        return b"".join(found)

    def encode_events(self, events: PacketEvents) -> list[bytes]:
        """Messages of the packet-events topic, one an entry of the batch. Raises ServiceUnavailable likewise."""
        batch, flow = events.batch, events.batch.flow
        header = HEADER.pack(0, self._registry.schema_id("PacketEvent"))
        time_ns = batch.base_ns + batch.time_offset_ns
        columns = {
            "node": same(string(batch.node)),
            "ring_id": same(long(batch.ring_id)),
            "ring_position": longs(np.asarray(events.ring_position, np.int64)),
            "coalesced": same(b"\1" if batch.coalesced else b"\0"),
            "time_us": longs(time_ns // 1000),
            "time_remainder_ns": longs(time_ns % 1000),
            **{name: longs(values) for name, values in entry_values(batch).items()},
        }
        for name in field_names("PacketEvent"):
            if name not in columns:
                columns[name] = _flow_column(name)(batch.flows, batch.interface_names).take(flow)
        return records(header, [columns[name] for name in field_names("PacketEvent")], len(batch), self._writer)


def records(header: bytes, columns: Sequence[Column], count: int, writer: Writer) -> list[bytes]:
    """Messages of one record each, behind a header."""
    if not count:
        return []
    ends = np.empty(count, np.int64)
    octets, begin, found = bytes(writer.rows([same(header), *columns], count, ends)), 0, []
    for end in ends.tolist():
        found.append(octets[begin:end])
        begin = end
    return found


@cache
def field_names(record: str) -> tuple[str, ...]:
    """The fields of the newest version of a record, in order."""
    return tuple(field["name"] for field in json.loads(newest(record))["fields"])


@cache
def _plan() -> tuple[Octets | tuple[Array, ...], ...]:
    """The fields of the schema in their order; columns that follow one another are written together."""
    found: list[Octets | tuple[Array, ...]] = []
    fields = json.loads(newest("PacketBatch"))["fields"]
    for kind, several in groupby(fields, _plan_kind):
        if kind is None:
            found += [_octets(field["name"], field["type"]) for field in several]
        else:
            found.append(kind(_array(field["name"]) for field in several))
    return tuple(found)


def _plan_kind(field: Any) -> type[tuple[Array, ...]] | None:
    """What it is written with: columns of names, other columns, or None: alone."""
    if not isinstance(field["type"], dict) or field["name"].startswith(_COUNTER):
        return None
    return _Named if field["name"] in _NAMES else tuple


def _octets(name: str, kind: Any) -> Octets:
    return _counter(name.removeprefix(_COUNTER), kind["items"]) if isinstance(kind, dict) else _scalar(name, kind)


def _scalar(name: str, kind: str) -> Octets:
    member, divisor = _member(name, PacketBatch)
    if kind == "string":
        return lambda batch: string(getattr(batch, member))
    return lambda batch: long(getattr(batch, member) // divisor)


def _array(name: str) -> Array:
    if name.startswith(_FLOW):
        member, column = name.removeprefix(_FLOW), _flow_column(name.removeprefix(_FLOW))
        return lambda batch: (column(batch.flows, batch.interface_names), len(getattr(batch.flows, member)))
    member, _ = _member(name, PacketBatch)
    if member in _LISTS:
        return lambda batch: distinct(getattr(batch, member))
    if member == "time_offset_ns":
        return lambda batch: (longs(_offsets(batch)), len(batch))
    return lambda batch: (longs(getattr(batch, member)), len(getattr(batch, member)))


def _offsets(batch: PacketBatch) -> Any:
    """base_us has lost the nanoseconds of base_ns."""
    rest = batch.base_ns % 1000
    return batch.time_offset_ns + rest if rest else batch.time_offset_ns


@cache
def _flow_column(name: str) -> FlowColumn:
    member, _ = _member(name, FlowKeys)
    if member in _KEYS:
        return lambda flows, names: key_column(flows, _KEYS[member], names)
    if member in _SOURCES:
        return lambda flows, _: choices(_SOURCES[member], getattr(flows, member))
    return lambda flows, _: longs(getattr(flows, member))


def key_column(flows: Any, field: Field, names: Sequence[str]) -> Column:
    """A key of FlowKeys or FlowColumns as a record has it. `names`: of nodes or interfaces, where it is one."""
    values = getattr(flows, field.name)
    match field.kind:
        case Kind.NAME:
            return choices(names, values)
        case Kind.CHOICE:
            return choices(field.choices, values)
        case Kind.FLAG:
            return booleans(values)
        case Kind.ADDRESS:
            return addresses(values, flows.tunnel_type > 0 if field.tunnel else None)
    return longs(values)


def _counter(name: str, kind: str) -> Octets:
    member, divisor = _member(name, EpochCounters)
    write = _counter_value(member, kind, divisor)

    def write_all(batch: PacketBatch) -> bytes:
        counters = batch.counters
        return b"".join([long(len(counters)), *map(write, counters), b"\0"]) if counters else b"\0"

    return write_all


def _counter_value(member: str, kind: str, divisor: int) -> Callable[[EpochCounters], bytes]:
    if kind == "boolean":
        return lambda row: b"\1" if getattr(row, member) else b"\0"
    if kind == "string" and member in _KEYS and _KEYS[member].choices:
        texts = [string(text) for text in _KEYS[member].choices]
        return lambda row: texts[getattr(row, member)]
    if kind == "string":
        return lambda row: string(getattr(row, member))
    return lambda row: long(getattr(row, member) // divisor)


def _member(name: str, owner: type) -> tuple[str, int]:
    """The member that a field is, and what it is divided by."""
    members = {member.name for member in fields(owner)}
    if name in members:
        return name, 1
    if name.endswith(_MICROS) and f"{name.removesuffix(_MICROS)}_ns" in members:
        return f"{name.removesuffix(_MICROS)}_ns", 1000
    raise TypeError(f"an .avsc file has the field {name}, which schemas.packets.{owner.__name__} has not")
