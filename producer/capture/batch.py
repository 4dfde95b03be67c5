"""Events to a PacketBatch. Pure: columns in, columns out, no loop over packets."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from producer.capture.columns import Columns, groups
from producer.capture.columns import columns as columns_of
from producer.kernel.abi import ICMP, ICMPV6, SECONDARY, Records
from producer.kernel.ring import submitted
from schemas.fields import KEYS, PACKET_COLUMNS
from schemas.packets import I64, U8, EpochCounters, FlowKeys, PacketBatch, PacketEvents


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Records of the ring between two positions."""

    start: int
    end: int
    records: Records  # all between start and end


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is the same for all batches of a run."""

    node: str
    ring_id: int
    interfaces: tuple[tuple[int, str], ...]  # (slot, name)


def full_epochs(low: U8, positions: I64 | range, of: I64, *, first: int, boundaries: Sequence[int]) -> I64:
    """The epochs of the events with the numbers `of`, from the low 8 bits of all, at these places of the ring.

    `boundaries` are the end positions of the epochs first, first + 1, … as far as they are closed; no event lies
    before the end of epoch first - 1. An event between the ends of epochs k - 1 and k was counted in k or k + 1: the
    kernel had opened k and not yet k + 2. So one bit would do, and it does not matter how long ago that was.
    Raises ValueError when that does not hold for one of all.
    """
    begins = [bisect_left(positions, boundary) for boundary in boundaries]
    at = np.full(1, first + begins.count(0), np.int64)
    if any(0 < begin < len(low) for begin in begins):
        at = np.full(len(low), first, np.int64)
        for begin in begins:
            at[begin:] += 1
    ahead = low - at.astype(np.uint8)  # modulo 256
    if len(ahead) and int(ahead.max()) > 1:
        raise ValueError(f"an event of an epoch that cannot be: {int(ahead.max())} behind what is open at its place")
    epochs: I64 = np.broadcast_to(at, len(low)).take(of) + ahead.take(of)
    return epochs


def build(
    span: Span,
    *,
    source: Source,
    first_epoch: int,
    boundaries: Sequence[int],
    offset_ns: int,
    sequence: int,
    clock_ns: int,
    counters: tuple[EpochCounters, ...],
    idle_ns: tuple[int, int] = (0, 0),
    coalesced: int = 0,
) -> PacketEvents:
    """One batch, and each entry's position in the ring. `coalesced`: entries of flow tables in earlier batches.

    idle_ns: from when to when the kernel counted nothing, Unix epoch.

    first_epoch, boundaries: see full_epochs. offset_ns: from the monotonic clock to the wall clock.
    """
    records, stride = span.records, (span.end - span.start) // max(1, len(span.records))
    positions: I64 | range = range(span.start, span.end, max(1, stride))
    columns = columns_of(records)
    if columns is None:  # the kernel took some back, or they are not ours: only then each header is looked at again
        keep = submitted(records)
        records, positions = records[keep], np.array(positions, np.int64)[keep]
        columns = columns_of(records)
        assert columns is not None
    epochs = full_epochs(columns.epoch, positions, columns.first, first=first_epoch, boundaries=boundaries)
    base = int(columns.ktime_ns.min()) if len(records) else 0
    batch = PacketBatch(
        node=source.node,
        ring_id=source.ring_id,
        ring_start=span.start,
        ring_end=span.end,
        coalesced_start=coalesced,
        coalesced_end=coalesced,
        sequence=sequence,
        clock_ns=clock_ns,
        idle_start_ns=idle_ns[0],
        idle_end_ns=idle_ns[1],
        base_ns=base + offset_ns if len(records) else clock_ns,
        interface_names=tuple(name for _, name in source.interfaces),
        flows=_flow_keys(records.take(columns.first)["event"], epochs, source),
        flow=columns.flow,
        time_offset_ns=columns.ktime_ns - base,
        **_of_packets(columns, records),
        counters=counters,
    )
    return PacketEvents(batch=batch, ring_position=positions)


def build_coalesced(
    entries: Records,
    *,
    start: int,
    source: Source,
    epoch: int,
    ring_position: int,
    offset_ns: int,
    sequence: int,
    clock_ns: int,
    counters: tuple[EpochCounters, ...],
    idle_ns: tuple[int, int] = (0, 0),
) -> PacketEvents:
    """A batch of entries of the kernel's flow table, and each one's number.

    entries: of dtype COALESCED, all of one epoch; `start`: number of the first. ring_position: up to which all events
    are in earlier batches.
    """
    events = entries["first"]
    index, flow = groups(events["flow_hash"])
    ktime = events["ktime_ns"].astype(np.int64)
    base = int(ktime.min()) if len(ktime) else 0
    batch = PacketBatch(
        node=source.node,
        ring_id=source.ring_id,
        ring_start=ring_position,
        ring_end=ring_position,
        coalesced_start=start,
        coalesced_end=start + len(entries),
        sequence=sequence,
        clock_ns=clock_ns,
        idle_start_ns=idle_ns[0],
        idle_end_ns=idle_ns[1],
        base_ns=base + offset_ns,
        interface_names=tuple(name for _, name in source.interfaces),
        flows=_flow_keys(entries.take(index)["first"], np.full(len(index), epoch, np.int64), source),
        flow=flow,
        time_offset_ns=ktime - base,
        **_of_entries(entries),
        counters=counters,
    )
    return PacketEvents(batch=batch, ring_position=range(start, start + len(entries)))


def _of_packets(columns: Columns, records: Records) -> dict[str, Any]:
    """The columns of PACKET_COLUMNS: as they were read, or under their own name from the event."""
    read = {field.name for field in fields(Columns)}
    return {
        column.name: getattr(columns, column.name)
        if column.name in read
        else records["event"][column.name].astype(column.numpy)
        for column in PACKET_COLUMNS
        if not column.may_be_empty
    }


def _of_entries(entries: Records) -> dict[str, Any]:
    """The same of entries of the flow table; what is not merged there is that of the first packet."""
    special = {"ttl": entries["min_ttl"], "segment_bytes": np.zeros(len(entries), np.int32)}
    special["duration_ns"] = entries["last_ktime_ns"] - entries["first"]["ktime_ns"]
    merged = entries.dtype.names or ()
    return {
        column.name: (
            special[column.name]
            if column.name in special
            else entries[column.name]
            if column.name in merged
            else entries["first"][column.name]
        ).astype(column.numpy)
        for column in PACKET_COLUMNS
    }


def _flow_keys(events: Records, epochs: I64, source: Source) -> FlowKeys:
    """The dictionary, from one event of each flow: views of `events`, which nobody else has."""
    place = np.zeros(1 + max((slot for slot, _ in source.interfaces), default=0), np.int32)
    for number, (slot, _) in enumerate(source.interfaces):
        place[slot] = number
    protocol = events["protocol"]
    icmp = (protocol == ICMP) | (protocol == ICMPV6)
    named = {field.name: events[field.name] for field in KEYS if field.name in (events.dtype.names or ())}
    special = {
        "interface": place[events["slot"]],
        "src_addr": events["src"],
        "dst_addr": events["dst"],
        "src_port": np.where(icmp, 0, events["src_port"]).astype(np.uint16),
        "dst_port": np.where(icmp, 0, events["dst_port"]).astype(np.uint16),
        "icmp_type": np.where(icmp, events["src_port"], 0).astype(np.int16),
        "icmp_code": np.where(icmp, events["dst_port"], 0).astype(np.uint8),
        "primary": ((events["flags"] & SECONDARY) == 0).astype(np.uint8),
    }
    return FlowKeys(epoch=epochs, **{**named, **special, **_tunnels(events)})


def _tunnels(events: Records) -> dict[str, Any]:
    """The columns of FlowKeys that say which tunnel; 0 where the program opens none."""
    if "tunnel_type" not in (events.dtype.names or ()):
        nothing = np.zeros((len(events), 16), np.uint8)
        return {
            "tunnel_type": nothing[:, 0],
            "tunnel_id": np.zeros(len(events), np.uint32),
            "outer_src_addr": nothing,
            "outer_dst_addr": nothing,
        }
    return {
        "tunnel_type": events["tunnel_type"],
        "tunnel_id": events["tunnel_id"],
        "outer_src_addr": events["outer_src"],
        "outer_dst_addr": events["outer_dst"],
    }
