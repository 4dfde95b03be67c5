"""How a kernel program and what it hands over are laid out, written beside it in the kernel: a later version of ayaflow
reads what an earlier one left, whatever has changed since. Pure.
"""

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from common.errors import DecodeError
from common.settings import CaptureSettings
from producer.kernel.abi import (
    COALESCED_KEY,
    CONFIG,
    COPY,
    INTERFACE,
    Dtype,
    coalesced_of,
    counters_of,
    record_of,
    tunnel_mask,
)
from producer.kernel.load import objects
from producer.kernel.run_state import STATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What one must know to read the maps of a run."""

    program: str  # digest of what it was compiled from, and how
    ring_bytes: int
    flow_entries: int
    copies_bytes: int  # of the ring of copies; 0: there is none
    record: Dtype
    copy: Dtype
    counters: Dtype
    coalesced_key: Dtype
    coalesced: Dtype
    state: Dtype
    interface: Dtype
    config: Dtype

    def text(self) -> str:
        """As JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps({name: _described(value) for name, value in values.items()})

    @classmethod
    def parse(cls, text: str) -> "Layout":
        """The opposite of `text`. Raises DecodeError."""
        try:
            described = json.loads(text)
            values = {field.name: described[field.name] for field in fields(cls)}
            types: Any = {name: _dtype(value) if isinstance(value, dict) else value for name, value in values.items()}
            return cls(**types)
        except (ValueError, TypeError, KeyError) as error:
            raise DecodeError(f"it has no layout that we know: {error!r}") from error


def layout_of(capture: CaptureSettings) -> Layout:
    """Of the program that these settings ask for."""
    digest = hashlib.sha256(objects.digest())
    digest.update(bytes([tunnel_mask(capture.decapsulate)]))
    digest.update(capture.inspected_bytes.to_bytes(4, "big"))
    record = record_of(capture.decapsulate)
    return Layout(
        program=digest.hexdigest()[:16],
        ring_bytes=capture.ring_bytes,
        flow_entries=capture.flow_entries,
        copies_bytes=capture.inspect_ring_bytes if capture.inspect else 0,
        record=record,
        copy=COPY,
        counters=counters_of(capture.inspect),
        coalesced_key=COALESCED_KEY,
        coalesced=coalesced_of(record["event"]),
        state=STATE,
        interface=INTERFACE,
        config=CONFIG,
    )


def _described(value: Any) -> Any:
    """A type as what JSON knows: the type and place of each field."""
    if not isinstance(value, np.dtype):
        return value
    if value.subdtype is not None:
        return {"base": _described(value.base), "shape": list(value.shape)}
    if value.fields is None:
        return value.str
    places = {name: [_described(value.fields[name][0]), value.fields[name][1]] for name in value.names or ()}
    return {"itemsize": value.itemsize, "fields": places}


def _dtype(described: Any) -> Dtype:
    if isinstance(described, str):
        return np.dtype(described)
    if "base" in described:
        return np.dtype((_dtype(described["base"]), tuple(described["shape"])))
    places = described["fields"]
    return np.dtype(
        {
            "names": list(places),
            "formats": [_dtype(kind) for kind, _ in places.values()],
            "offsets": [offset for _, offset in places.values()],
            "itemsize": described["itemsize"],
        }
    )
