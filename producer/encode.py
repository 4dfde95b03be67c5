"""A PacketBatch to a message of the packets topic, byte for byte as schemas.codec makes it, with numpy alone.

schemas.codec brings Arrow: 50 MB that a process on each node should not need. A test holds the two together.
"""

from producer.avro_bytes import addresses, array, choices, items, long, longs, string
from schemas.packets import FlowKeys, PacketBatch
from schemas.registry import HEADER, Registry

_COUNTER_NUMBERS = tuple(
    f"{outcome}_{unit}"
    for outcome in ("seen", "emitted", "non_ip", "malformed", "ring_full")
    for unit in ("packets", "bytes")
)


class BatchEncoder:
    """Encodes batches with the schema id that the registry gives."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def encode(self, batch: PacketBatch) -> bytes:
        """One message. Raises ServiceUnavailable when the registry is away the first time."""
        numbers = (batch.ring_id, batch.ring_start, batch.ring_end, batch.sequence, batch.clock_ns, batch.base_ns)
        columns = (batch.flow, batch.time_offset_ns, batch.packets, batch.bytes, batch.tcp_flags)
        return b"".join([
            HEADER.pack(0, self._registry.schema_id("PacketBatch")),
            string(batch.node),
            *(long(number) for number in numbers),
            array(len(batch.flows), _flow_keys(batch.flows, batch.interface_names) if len(batch.flows) else b""),
            *(array(len(column), items(longs(column))) for column in columns),
            array(len(batch.counters), _counters(batch)),
        ])  # fmt: skip


def _flow_keys(flows: FlowKeys, interface_names: tuple[str, ...]) -> bytes:
    return items(
        choices(interface_names, flows.interface),
        longs(flows.direction),  # an enum is written as its symbol's place
        longs(flows.protocol),
        addresses(flows.src_addr),
        addresses(flows.dst_addr),
        longs(flows.src_port),
        longs(flows.dst_port),
        longs(flows.vlan_id),
        longs(flows.icmp_type),
        longs(flows.icmp_code),
        longs(flows.epoch),
    )


def _counters(batch: PacketBatch) -> bytes:
    parts = []
    for row in batch.counters:
        parts += [long(row.epoch), long(row.start_ns), long(row.end_ns), string(row.interface)]
        parts += [long(row.direction)]
        parts += [long(getattr(row, name)) for name in _COUNTER_NUMBERS]
    return b"".join(parts)
