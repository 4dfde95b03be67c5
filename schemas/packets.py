"""PacketBatch as columns: what a producer sends and the streams app reads. Pure; numpy only.

Addresses are 16 octets, IPv4 as ::ffff:a.b.c.d. Numbers are in host byte order, times in nanoseconds since the
Unix epoch unless a name says otherwise.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.columnar import Columnar, columnar
from schemas.fields import KEYS, NAMED, PACKET_COLUMNS

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

MAPPED_PREFIX = bytes(10) + b"\xff\xff"
"""What an IPv4 address begins with."""
_PREFIX_WORDS = np.frombuffer(MAPPED_PREFIX, "<u4")

INGRESS, EGRESS = 0, 1
"""Places in DIRECTIONS."""
BARE_SYN = 1 << 15
"""In the TCP flags of a coalesced entry: one of its packets was a SYN without ACK."""

_KEYS = {field.name: np.dtype(field.type.numpy) for field in KEYS if field.name != "node"}

_NAMED = {field.name: np.dtype(field.type.numpy) for field in NAMED}


@columnar({**_KEYS, "epoch": np.int64, **_NAMED}, may_be_empty=_NAMED)
class FlowKeys(Columnar):
    """The flow dictionary of a batch: n one-directional flows, a column each key of schemas.fields but the node.

    `interface` is an index into PacketBatch.interface_names; addresses have shape (n, 16); `epoch` is the counter
    epoch in which the packets were counted. `domain`, `ja4` and `alpn` are indexes into the lists of PacketBatch, -1
    for none; they, `domain_source` and `domain_count` are all empty where no flow has a name.
    """

    def __len__(self) -> int:
        return len(self.protocol)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochCounters:
    """The kernel's counters of one epoch, interface, direction and `primary`. seen = the sum of the outcomes.

    Without an interface it is a row of the node itself, all zeros: each epoch has a row, also one that saw nothing, so
    that a node that sees nothing can be told from one of which nothing comes.
    """

    epoch: int
    start_ns: int
    end_ns: int
    interface: str
    direction: int  # INGRESS or EGRESS
    primary: bool = True  # as FlowKeys.primary
    ended: bool = False  # the producer ended, and all is sent: the ring has no epoch behind this one
    seen_packets: int
    seen_bytes: int
    emitted_packets: int  # into the ring, as events
    emitted_bytes: int
    coalesced_packets: int = 0  # added up by flow in the kernel; emitted + coalesced is what is recorded
    coalesced_bytes: int = 0
    non_ip_packets: int  # counted, not recorded
    non_ip_bytes: int
    malformed_packets: int  # counted, not recorded
    malformed_bytes: int
    unknown_link_packets: int = 0  # counted, not recorded: of a device whose link header we do not know
    unknown_link_bytes: int = 0
    ring_full_packets: int  # dropped: no room in the ring, and none in the flow table
    ring_full_bytes: int
    inspected_packets: int = 0  # may hold a name; the sum of the next four
    copied_packets: int = 0  # their beginning went into the ring of copies
    skipped_ring_full_packets: int = 0  # no room in it
    skipped_over_budget_packets: int = 0  # more than capture.inspect_budget a second
    skipped_table_full_packets: int = 0  # no room where unfinished hellos are remembered
    device_epochs: int = 0  # that the next three are of, up to this one; 0: not read at its end
    device_packets: int = 0  # by the device's own counters, all passages together
    device_bytes: int = 0
    unseen_packets: int = 0  # of device_packets, those that the hooks did not see

    @classmethod
    def nothing(cls, *, epoch: int, start_ns: int, end_ns: int, **more: Any) -> "EpochCounters":
        """Zeros but for `more`."""
        values: dict[str, Any] = {"interface": "", "direction": INGRESS, **dict.fromkeys(COUNTS, 0), **more}
        return cls(epoch=epoch, start_ns=start_ns, end_ns=end_ns, **values)


COUNTS = tuple(
    name
    for name in EpochCounters.__dataclass_fields__
    if name.endswith(("_packets", "_bytes")) or name == "device_epochs"
)
"""What EpochCounters counts: none is ever below 0, and each is a column of the ledger."""


@columnar(
    {column.name: column.numpy for column in PACKET_COLUMNS},
    may_be_empty=[column.name for column in PACKET_COLUMNS if column.may_be_empty],
)
class PacketBatch(Columnar):
    """What one node saw in a fraction of a second; schemas/avro/PacketBatch.N.avsc documents each field.

    A batch holds either single packets from the ring or coalesced entries. The columns of
    schemas.fields.PACKET_COLUMNS are as long as `flow`, or some of them empty: see schemas.defaults.
    """

    node: str
    ring_id: int
    ring_start: int
    ring_end: int
    coalesced_start: int = 0  # numbers of coalesced entries since the ring was made
    coalesced_end: int = 0  # as coalesced_start: a batch from the ring
    sequence: int
    clock_ns: int  # every packet of this node before it is in this batch or an earlier one; 0: unknown
    idle_start_ns: int = 0  # until idle_end_ns the kernel program counted nothing: nobody had told it that we live
    idle_end_ns: int = 0  # 0: no such time is told here
    base_ns: int
    interface_names: tuple[str, ...]
    flows: FlowKeys
    flow: I32  # index into flows
    time_offset_ns: I64  # since base_ns
    domains: tuple[str, ...] = ()  # of flows.domain
    ja4s: tuple[str, ...] = ()  # of flows.ja4
    alpns: tuple[str, ...] = ()  # of flows.alpn
    counters: tuple[EpochCounters, ...]

    def __len__(self) -> int:
        return len(self.flow)

    @property
    def named(self) -> bool:
        """Whether flows may have names."""
        return bool(self.domains or self.ja4s or self.alpns)

    @property
    def coalesced(self) -> bool:
        """Whether the entries are packets that the kernel added up by flow."""
        return self.coalesced_end > self.coalesced_start


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketEvents:
    """A PacketBatch written out for `producer.encoding: record`: the batch, and each entry's place.

    `ring_position`: in the ring; of coalesced entries their numbers.
    """

    batch: PacketBatch
    ring_position: I64 | range


def is_ipv4(octets: U8) -> Any:
    """Which rows of (n, 16) octets are IPv4-mapped; shape (n,), bool."""
    words = np.ascontiguousarray(octets).view("<u4")
    return (words[:, 0] == _PREFIX_WORDS[0]) & (words[:, 1] == _PREFIX_WORDS[1]) & (words[:, 2] == _PREFIX_WORDS[2])
