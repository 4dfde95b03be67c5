"""A copy of payload, or several put together, as the parsers take it. Pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from producer.kernel.abi import COPY_KINDS
from producer.names.columns import BLANK, OPAQUE, ROW, Rows

UDP, TCP = 17, 6
DNS, TLS, QUIC, HTTP, CONTINUATION, FRAGMENT, TCP_DNS = range(1, len(COPY_KINDS))
"""What the kernel took it for: places in COPY_KINDS."""
PORT_DNS, PORT_MDNS, PORT_LLMNR = 53, 5353, 5355

Heads = npt.NDArray[np.void]
"""Shape (n,), of producer.kernel.abi.COPY."""

_KEY = slice(ROW.fields["client"][1], ROW.fields["protocol"][1])  # type: ignore[index]  # addresses and ports
_ADDRESS_BYTES, _PORT_BYTES = 16, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What one packet brought, or a datagram's fragments did."""

    kind: int
    row: Rows  # (1,): its sender as the client; `copies` is of how many it is made
    key: bytes  # of its flow: addresses and ports
    seq: int
    octets: bytes
    is_cut: bool  # more of it was on the wire

    @property
    def count(self) -> int:
        """Of copies that it is made of."""
        return int(self.row["copies"][0])

    @property
    def time_ns(self) -> int:
        """When the kernel saw it (ktime)."""
        return int(self.row["time_ns"][0])


def base_rows(heads: Heads) -> Rows:
    """A row a copy, of what its head says; the sender is taken as the client."""
    rows = np.repeat(BLANK.reshape(1).view(OPAQUE), len(heads)).view(ROW)
    rows["time_ns"], rows["flow_hash"] = heads["ktime_ns"], heads["flow_hash"]
    rows["client"], rows["server"] = heads["src"], heads["dst"]
    rows["client_port"], rows["server_port"] = heads["src_port"], heads["dst_port"]
    rows["protocol"], rows["direction"], rows["interface"] = heads["protocol"], heads["direction"], heads["slot"]
    rows["copies"], rows["copy"] = 1, np.arange(len(heads))
    return rows


def turned(rows: Rows, which: npt.NDArray[np.bool_]) -> None:
    """Makes the sender of these the server, in place."""
    for client, server in (("client", "server"), ("client_port", "server_port")):
        left, right = rows[client], rows[server]
        left[which], right[which] = right[which], left[which]


def flow_keys(rows: Rows) -> list[bytes]:
    """Of each row's flow, from its client to its server."""
    octets, size = rows.tobytes(), rows.itemsize
    return [octets[at + _KEY.start : at + _KEY.stop] for at in range(0, len(octets), size)]


def turned_key(key: bytes) -> bytes:
    """The flow the other way."""
    ports = 2 * _ADDRESS_BYTES
    return (
        key[_ADDRESS_BYTES:ports] + key[:_ADDRESS_BYTES] + key[ports + _PORT_BYTES :] + key[ports : ports + _PORT_BYTES]
    )
