"""Community ID v1, seed 0 (https://github.com/corelight/community-id-spec), a column at a time.

The same value for both directions of a flow: base64 of SHA-1 over seed, the lower endpoint, the higher endpoint,
protocol, padding and ports. ICMP types stand in for ports, so that a request and its reply share an id; types that
have no reply are hashed as they are.
"""

import base64
import hashlib

import numpy as np
import numpy.typing as npt

from schemas.packets import U8, U16, is_ipv4

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


def counterparts(protocol: U8, icmp_type: U8) -> npt.NDArray[np.int16]:
    """For each row the ICMP type that answers it; -1 where there is none or it is not ICMP. Shape (n,)."""
    result = np.full(len(protocol), -1, np.int16)
    for number, table in ((ICMP, ICMP_COUNTERPARTS), (ICMP6, ICMP6_COUNTERPARTS)):
        lookup = np.full(256, -1, np.int16)
        lookup[list(table)] = list(table.values())
        rows = protocol == number
        result[rows] = lookup[icmp_type[rows]]
    return result


def community_ids(
    *, protocol: U8, src_addr: U8, dst_addr: U8, src_port: U16, dst_port: U16, icmp_type: U8, icmp_code: U8
) -> list[str]:
    """The ids of n flows; addresses have shape (n, 16), the rest (n,)."""
    n = len(protocol)
    if not n:
        return []
    icmp = (protocol == ICMP) | (protocol == ICMP6)
    has_ports = icmp | (protocol == TCP) | (protocol == UDP) | (protocol == SCTP)
    answer = counterparts(protocol, icmp_type)
    one_way = icmp & (answer < 0)
    first = np.where(icmp, icmp_type, src_port).astype(">u2")
    second = np.where(icmp, np.where(one_way, icmp_code, answer), dst_port).astype(">u2")

    src, dst = _sortable(src_addr), _sortable(dst_addr)
    swap = ~one_way & ((src > dst) | ((src == dst) & has_ports & (first > second)))
    low, high = np.where(swap, dst, src), np.where(swap, src, dst)
    low_port, high_port = np.where(swap, second, first), np.where(swap, first, second)

    rows = np.zeros((n, 40), np.uint8)  # seed 2, addresses 16 + 16, protocol, padding, ports 2 + 2
    rows[:, 2:18] = low.view(np.uint8).reshape(n, 16)
    rows[:, 18:34] = high.view(np.uint8).reshape(n, 16)
    rows[:, 34] = protocol
    rows[:, 36:38] = low_port.astype(">u2").view(np.uint8).reshape(n, 2)
    rows[:, 38:40] = high_port.astype(">u2").view(np.uint8).reshape(n, 2)
    data, ids = rows.tobytes(), []
    four, ports = is_ipv4(src_addr) & is_ipv4(dst_addr), has_ports.tolist()
    for i, is_four in enumerate(four.tolist()):
        row = data[i * 40 : i * 40 + (40 if ports[i] else 36)]
        if is_four:
            row = row[:2] + row[14:18] + row[30:]
        ids.append("1:" + base64.b64encode(hashlib.sha1(row, usedforsecurity=False).digest()).decode())
    return ids


def _sortable(octets: U8) -> npt.NDArray[np.bytes_]:
    # numpy compares S16 as unsigned octets and pads with NUL, which keeps the order of equal lengths
    return np.ascontiguousarray(octets).view("S16").reshape(-1)
