"""Records of the ring to columns, and which flows are among them: by the compiled function where there is one."""

import ctypes
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.native import address, load
from producer.kernel.abi import Records
from schemas.packets import I32, I64, U8

_EPOCH_MIX = np.uint64(0x9E3779B97F4A7C15)  # as in read_records.c
_OUT = struct.Struct("=12QQ")  # struct columns

_read = load(
    Path(__file__).with_name("read_records.c"),
    "ayaflow_read_records",
    ctypes.c_int64,
    [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint32, ctypes.c_char_p],
)

IS_COMPILED = _read is not None
"""Whether `compiled` may be called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """n events of the ring; shape (n,), but for `first`."""

    ktime_ns: I64
    bytes: I64
    packets: I32
    tcp_flags: I32
    segment_bytes: I32
    ttl: U8
    tos: U8
    epoch: U8  # low bits
    flow: I32  # number of its flow and epoch
    first: npt.NDArray[np.int64]  # one event of each of these


def columns(records: Records) -> Columns | None:
    """Columns of records that are all submitted events; None when one is not."""
    return compiled(records) if IS_COMPILED else by_numpy(records)


def compiled(records: Records) -> Columns | None:
    """See `columns`."""
    assert _read is not None
    rows = len(records)
    out = Columns(
        ktime_ns=np.empty(rows, np.int64),
        bytes=np.empty(rows, np.int64),
        packets=np.empty(rows, np.int32),
        tcp_flags=np.empty(rows, np.int32),
        segment_bytes=np.empty(rows, np.int32),
        ttl=np.empty(rows, np.uint8),
        tos=np.empty(rows, np.uint8),
        epoch=np.empty(rows, np.uint8),
        flow=np.empty(rows, np.int32),
        first=np.empty(rows, np.int64),
    )
    keys, table = np.empty(rows, np.uint64), np.zeros(1 << (2 * rows).bit_length(), np.uint32)
    arrays = (
        out.ktime_ns,
        out.bytes,
        out.packets,
        out.tcp_flags,
        out.segment_bytes,
        out.ttl,
        out.tos,
        out.epoch,
        out.flow,
        out.first,
        keys,
        table,
    )
    described = _OUT.pack(*(address(array) for array in arrays), len(table) - 1)
    flows = _read(address(records), records.strides[0], rows, records.dtype["event"].itemsize, described)
    return None if flows < 0 else replace(out, first=out.first[:flows])


def by_numpy(records: Records) -> Columns | None:
    """See `columns`."""
    if not (records["header"] == records.dtype["event"].itemsize).all():
        return None
    events = records["event"]
    first, flow = groups(events["flow_hash"] + events["epoch"].astype(np.uint64) * _EPOCH_MIX)
    return Columns(
        ktime_ns=events["ktime_ns"].astype(np.int64),
        bytes=events["bytes"].astype(np.int64),
        packets=events["packets"].astype(np.int32),
        tcp_flags=events["tcp_flags"].astype(np.int32),
        segment_bytes=events["segment_bytes"].astype(np.int32),
        ttl=events["ttl"].copy(),
        tos=events["tos"].copy(),
        epoch=events["epoch"].copy(),
        flow=flow,
        first=first,
    )


def groups(keys: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int64], I32]:
    """Where one event of each group is, and each event's group. np.unique sorts stably: four times as long."""
    order = np.argsort(keys)
    ordered = keys[order]
    begins = np.ones(len(keys), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=begins[1:])
    number = np.empty(len(keys), np.int32)
    number[order] = np.cumsum(begins, dtype=np.int32) - 1
    return order[begins], number
