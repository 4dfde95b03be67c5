"""The identity of a flow record, a column at a time: what a consumer knows a record by that comes twice. Pure.

The first 16 octets, as 32 hexadecimal digits, of SHA-1 over what tells the rows of the table flows apart: the columns
of IDENTITY in their order, little-endian and without padding (window_begin in seconds, node_octets the length of the
node's name in UTF-8), that name and the interface's. schemas/clickhouse/record_id.sql is the same in SQL.
"""

import binascii
import hashlib
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.fields import KEYS, Kind
from schemas.flows import FlowColumns

_KEYS = tuple(field for field in KEYS if field.kind is not Kind.NAME)
_OF_WINDOW = (
    ("topic_id", "<u8"),
    ("kafka_partition", "<i4"),
    ("window_begin", "<i8"),
    ("window_seconds", "<u2"),
    ("revision", "<u4"),
)
IDENTITY = np.dtype(
    [
        *_OF_WINDOW,
        *(
            (field.name, "u1", (16,)) if field.kind is Kind.ADDRESS else (field.name, field.type.numpy)
            for field in _KEYS
        ),
        ("node_octets", "<u2"),
    ]
)
_OCTETS = 16  # of a digest


def record_ids(flows: FlowColumns, *, topic_id: int, kafka_partition: int, revision: int) -> npt.NDArray[np.bytes_]:
    """The ids of n rows as ASCII, dtype S32. topic_id, kafka_partition, revision: as in the table flows."""
    rows = np.zeros(len(flows), IDENTITY)
    rows["topic_id"], rows["kafka_partition"], rows["revision"] = topic_id, kafka_partition, revision
    rows["window_begin"], rows["window_seconds"] = flows.window_begin, flows.window_seconds
    for field in _KEYS:
        rows[field.name] = getattr(flows, field.name)
    nodes = [name.encode() for name in flows.node_names]
    interfaces = [name.encode() for name in flows.interface_names]
    rows["node_octets"] = np.array([len(name) for name in nodes], np.uint16)[flows.node]
    names = [[node + interface for interface in interfaces] for node in nodes]
    sha1 = partial(hashlib.sha1, usedforsecurity=False)
    fixed = rows.view(f"V{IDENTITY.itemsize}").tolist()
    if len(nodes) == len(interfaces) == 1:
        name = names[0][0]
        digests = [sha1(row + name).digest() for row in fixed]
    else:
        places = zip(fixed, flows.node.tolist(), flows.interface.tolist(), strict=True)
        digests = [sha1(row + names[node][interface]).digest() for row, node, interface in places]
    return _hexadecimal(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 20))


def _hexadecimal(digests: Any) -> npt.NDArray[np.bytes_]:
    digits = binascii.hexlify(np.ascontiguousarray(digests[:, :_OCTETS]).data)
    return np.frombuffer(digits, f"S{2 * _OCTETS}")
