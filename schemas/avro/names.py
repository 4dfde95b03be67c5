"""A NameBatch to and from a message. A process that only writes does not load Arrow."""

from typing import Any

import numpy as np

from common.errors import DecodeError
from schemas.avro.columns import Column, addresses, choices, distinct, long, longs, string
from schemas.avro.packet_encoder import Writer, fastest, field_names
from schemas.avro.registry import HEADER, Registry
from schemas.names import MOST_COPIES, MOST_DOMAIN, NAME_COLUMNS, NameBatch, NameColumn, no_rows

MOST_US = 2**63 // 1000 - 1
"""Microseconds of which nanoseconds still fit."""
SCALARS = ("ring_id", "ring_start", "ring_end", "sequence", "copies", "open_copies", "unused_copies")
TIMES = ("clock", "base")
TEXT_LISTS = ("names", "answer_sets", "ja4s", "alpns")
ADDRESS_LISTS = ("clients", "servers")
EPOCHS = ("epoch", "epoch_copies")


class NameEncoder:
    """Encodes batches of names with the schema id that the registry gives."""

    def __init__(self, registry: Registry, writer: Writer | None = None) -> None:
        """`writer`: None is the compiled one where there is one."""
        self._registry, self._writer = registry, writer or fastest()

    def encode(self, batch: NameBatch) -> bytes:
        """One message. Raises ServiceUnavailable when the registry is away the first time."""
        plain = _plain(batch)
        columns = _columns(batch)
        found: list[bytes | memoryview] = [HEADER.pack(0, self._registry.schema_id("NameBatch"))]
        fields = field_names("NameBatch")
        found += [plain[name] for name in fields if name in plain]
        found.append(self._writer.arrays([columns[name] for name in fields if name not in plain]))
        return b"".join(found)


def _plain(batch: NameBatch) -> dict[str, bytes]:
    """What is no array; in the schema they come first."""
    return {
        "node": string(batch.node),
        **{name: long(getattr(batch, name)) for name in SCALARS},
        **{f"{name}_us": long(getattr(batch, f"{name}_ns") // 1000) for name in TIMES},
    }


def _columns(batch: NameBatch) -> dict[str, tuple[Column, int]]:
    rest = batch.base_ns % 1000  # base_us has lost them
    return {
        **{name: (longs(getattr(batch, name)), len(batch.epoch)) for name in EPOCHS},
        **{name: distinct(getattr(batch, name)) for name in TEXT_LISTS},
        **{name: (addresses(getattr(batch, name)), len(getattr(batch, name))) for name in ADDRESS_LISTS},
        **{column.name: (_column(batch, column, rest), len(batch)) for column in NAME_COLUMNS},
    }


def _column(batch: NameBatch, column: NameColumn, rest: int) -> Column:
    values = getattr(batch, column.name)
    if column.name == "interface":
        return choices(batch.interface_names, values)
    if column.name == "time_offset_ns":
        return longs(values + rest if rest else values)
    return choices(column.texts, values) if column.texts else longs(values)


def batch_of(found: dict[str, Any]) -> NameBatch:
    """From what was read; what its writer did not know takes its default. Raises DecodeError."""
    count = max((len(found[column.name]) for column in NAME_COLUMNS if column.name in found), default=0)
    nothing = no_rows()
    columns: dict[str, Any] = {
        column.name: found[column.name]
        if column.name in found
        else np.full(count, column.lowest if column.list_of else 0, nothing[column.name].dtype)
        for column in NAME_COLUMNS
    }
    interface_names: tuple[str, ...] = ("",)
    if "interface" in found:
        interfaces = found["interface"].dictionary_encode()
        interface_names = tuple(interfaces.dictionary.to_pylist())
        columns["interface"] = interfaces.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    zeros = np.zeros(0, np.int64)
    batch = NameBatch(
        node=found.get("node", ""),
        **{name: found.get(name, 0) for name in SCALARS},
        **{f"{name}_ns": 1000 * found.get(f"{name}_us", 0) for name in TIMES},
        **{name: found.get(name, zeros) for name in EPOCHS},
        **{name: tuple(found[name].to_pylist()) if name in found else () for name in TEXT_LISTS},
        **{name: found.get(name, np.zeros((0, 16), np.uint8)) for name in ADDRESS_LISTS},
        interface_names=interface_names,
        **columns,
    )
    _check(batch)
    return batch


def _check(batch: NameBatch) -> None:
    count = len(batch)
    if any(len(getattr(batch, column.name)) != count for column in NAME_COLUMNS):
        raise DecodeError("the columns of a NameBatch differ in length")
    if len(batch.epoch) != len(batch.epoch_copies):
        raise DecodeError("the columns of a NameBatch differ in length: epoch_copies")
    if not batch.node:
        raise DecodeError("a NameBatch without a node")
    if not 0 <= batch.ring_start <= batch.ring_end:
        raise DecodeError(f"a NameBatch from place {batch.ring_start} of a ring to {batch.ring_end}")
    _check_copies(batch)
    for column in NAME_COLUMNS:
        values = getattr(batch, column.name)
        if column.list_of and count and int(values.max()) >= len(getattr(batch, column.list_of)):
            raise DecodeError(f"a row of a NameBatch has a {column.name} that is not in its list")
    if count and batch.ring_start + int(batch.ring_offset.max()) > batch.ring_end:
        raise DecodeError("a row of a NameBatch lies behind its end")
    if (most := max(map(len, batch.names), default=0)) > MOST_DOMAIN:
        raise DecodeError(f"a NameBatch with a name of {most} characters")


def _check_copies(batch: NameBatch) -> None:
    if min(batch.copies, batch.open_copies, batch.unused_copies) < 0:
        raise DecodeError("a NameBatch with a negative count")
    if (most := max(batch.copies, batch.open_copies, batch.unused_copies)) > MOST_COPIES:
        raise DecodeError(f"a NameBatch of {most} copies, more than any ring holds")
    if len(batch.epoch) and (int(batch.epoch.min()) < 0 or int(batch.epoch_copies.min()) < 0):
        raise DecodeError("a NameBatch with a negative count of an epoch")
    if len(batch.epoch) and sum(batch.epoch_copies.tolist()) != batch.copies:  # exact: numpy's may come round to it
        raise DecodeError("the copies of the epochs of a NameBatch are not its copies")
