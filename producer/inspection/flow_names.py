"""Names on the flows of a batch. Pure."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from producer.names.columns import Names
from producer.names.join import FlowNames
from schemas.packets import I64, U8, U16, PacketBatch


class Table(Protocol):
    """What we use of names.join.DomainTable. Times are those of the copies' clock."""

    def learn(self, names: Names) -> None:
        """Remember what names addresses and connections have."""

    def of_flows(
        self, *, src: U8, dst: U8, src_port: U16, dst_port: U16, protocol: U8, first_ns: I64, last_ns: I64
    ) -> FlowNames:
        """The names of flows: addresses of shape (n, 16), all else (n,)."""


def of_batch(batch: PacketBatch, offset_ns: int, table: Table, hide: Callable[[FlowNames], FlowNames]) -> PacketBatch:
    """The batch with names on its flows. `offset_ns`: from the copies' clock to that of the batch.

    `hide`: what of names may not leave the node.
    """
    flows = batch.flows
    if not len(flows):
        return batch
    first, last = _times(batch, offset_ns)
    found = hide(
        table.of_flows(
            src=flows.src_addr,
            dst=flows.dst_addr,
            src_port=flows.src_port,
            dst_port=flows.dst_port,
            protocol=flows.protocol,
            first_ns=first,
            last_ns=last,
        )
    )
    if not (found.domains or found.ja4s or found.alpns):
        return batch
    named = replace(
        flows,
        domain=found.flow_domain,
        domain_source=found.flow_domain_source,
        domain_count=found.flow_domain_count,
        ja4=found.flow_ja4,
        alpn=found.flow_alpn,
    )
    return replace(batch, flows=named, domains=tuple(found.domains), ja4s=tuple(found.ja4s), alpns=tuple(found.alpns))


def _times(batch: PacketBatch, offset_ns: int) -> tuple[I64, I64]:
    """When each flow's first and last packet of the batch passed."""
    begins = batch.time_offset_ns + (batch.base_ns - offset_ns)
    ends = begins + batch.duration_ns if len(batch.duration_ns) else begins
    limits = np.iinfo(np.int64)
    first, last = (np.full(len(batch.flows), edge, np.int64) for edge in (limits.max, limits.min))
    np.minimum.at(first, batch.flow, begins)
    np.maximum.at(last, batch.flow, ends)
    return first, last
