"""Community ID v1, seed 0 (https://github.com/corelight/community-id-spec), a column at a time.

The same value for both directions of a flow: base64 of SHA-1 over seed, the lower endpoint, the higher endpoint,
protocol, padding and ports. ICMP types stand in for ports, so that a request and its reply share an id; types that
have no reply are hashed as they are. ICMP without a type is hashed as a protocol without ports.
"""

import binascii
import hashlib
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.fields import NO_ICMP_TYPE
from schemas.packets import I16, U8, U16, is_ipv4

ICMP, TCP, UDP, ICMP6, SCTP = 1, 6, 17, 58, 132

ICMP_COUNTERPARTS = {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 10: 9, 9: 10, 17: 18, 18: 17}
"""ICMP type -> the type that answers it, or that it answers."""
ICMP6_COUNTERPARTS = {
    128: 129,
    129: 128,
    133: 134,
    134: 133,
    135: 136,
    136: 135,
    130: 131,
    131: 130,
    144: 145,
    145: 144,
    139: 140,
    140: 139,
}


def counterparts(protocol: U8, icmp_type: I16) -> npt.NDArray[np.int16]:
    """For each row the ICMP type that answers it; -1 where there is none or it is not ICMP. Shape (n,)."""
    result = np.full(len(protocol), -1, np.int16)
    for number, table in ((ICMP, ICMP_COUNTERPARTS), (ICMP6, ICMP6_COUNTERPARTS)):
        lookup = np.full(257, -1, np.int16)  # the last is that of NO_ICMP_TYPE
        lookup[list(table)] = list(table.values())
        rows = protocol == number
        result[rows] = lookup[icmp_type[rows]]
    return result


def community_ids(**columns: npt.NDArray[Any]) -> list[str]:
    """The ids of n flows, from the columns that `encoded_ids` takes."""
    return [each.decode() for each in encoded_ids(**columns).tolist()]


def encoded_ids(
    *, protocol: U8, src_addr: U8, dst_addr: U8, src_port: U16, dst_port: U16, icmp_type: I16, icmp_code: U8
) -> npt.NDArray[np.bytes_]:
    """The ids of n flows as ASCII, dtype S30; addresses have shape (n, 16), the rest (n,)."""
    n = len(protocol)
    icmp = (protocol == ICMP) | (protocol == ICMP6)
    untyped = icmp & (icmp_type == NO_ICMP_TYPE)
    has_ports = (icmp & ~untyped) | (protocol == TCP) | (protocol == UDP) | (protocol == SCTP)
    answer = counterparts(protocol, icmp_type)
    one_way = icmp & ~untyped & (answer < 0)
    first = np.where(icmp, icmp_type, src_port).astype(">u2")
    second = np.where(icmp, np.where(one_way, icmp_code, answer), dst_port).astype(">u2")

    swap = ~one_way & _must_swap(src_addr, dst_addr, first, second, has_ports)
    across = swap[:, None]
    rows = np.zeros((n, 40), np.uint8)  # seed 2, addresses 16 + 16, protocol, padding, ports 2 + 2
    rows[:, 2:18] = np.where(across, dst_addr, src_addr)
    rows[:, 18:34] = np.where(across, src_addr, dst_addr)
    rows[:, 34] = protocol
    rows[:, 36:38] = np.where(swap, second, first).astype(">u2").view(np.uint8).reshape(n, 2)
    rows[:, 38:40] = np.where(swap, first, second).astype(">u2").view(np.uint8).reshape(n, 2)
    four = is_ipv4(src_addr) & is_ipv4(dst_addr)
    digests = np.empty((n, 21), np.uint8)
    for is_four, columns in ((True, _OF_IPV4), (False, _OF_IPV6)):
        for with_ports, width in ((True, len(columns)), (False, len(columns) - 4)):
            chosen = np.flatnonzero((four == is_four) & (has_ports == with_ports))
            if len(chosen):
                digests[chosen, :20] = _sha1(rows[chosen][:, columns[:width]])
    return _base64(digests)


_OF_IPV6 = np.arange(40)
_OF_IPV4 = np.r_[0:2, 14:18, 30:40]


def _sha1(messages: U8) -> U8:
    """The digest of each row, shape (n, 20). hashlib takes a third of a microsecond; numpy would need as long."""
    sha1 = partial(hashlib.sha1, usedforsecurity=False)
    rows = np.ascontiguousarray(messages).view(f"V{messages.shape[1]}")[:, 0].tolist()
    return np.frombuffer(b"".join([sha1(row).digest() for row in rows]), np.uint8).reshape(-1, 20)


def _base64(digests: U8) -> npt.NDArray[np.bytes_]:
    """`1:` and the base64 of each row's first 20 of 21 octets; the last is scratch."""
    digests[:, 20] = 0
    ids = np.empty((len(digests), 30), np.uint8)
    ids[:, :2] = np.frombuffer(b"1:", np.uint8)
    ids[:, 2:] = np.frombuffer(binascii.b2a_base64(digests.data, newline=False), np.uint8).reshape(-1, 28)
    ids[:, 29] = ord("=")  # of 21 octets the last character would be an A
    return ids.view("S30")[:, 0]


def _must_swap(
    src: U8, dst: U8, first: npt.NDArray[Any], second: npt.NDArray[Any], has_ports: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Whether the destination is the lower endpoint: by address, then by port."""
    (high, low), (other_high, other_low) = (
        np.ascontiguousarray(each).view(">u8").astype(np.uint64).T for each in (src, dst)
    )
    same = high == other_high
    greater = (high > other_high) | (same & (low > other_low))
    swap: npt.NDArray[np.bool_] = greater | (same & (low == other_low) & has_ports & (first > second))
    return swap
