"""Packets and flow records for programs of others: typed columns, each once, with offsets to commit.

    from ayaflow.consume import Flows

    with Flows("127.0.0.1:9092", group="me") as flows:
        for part in flows:
            use(part.table)
            part.commit()

docs/consumers/python-library.md tells what is promised, and how totals stay exact when a consumer is killed.
"""

from ayaflow.consume.files import read_flows, read_packets
from ayaflow.consume.flows import FlowPart, Flows
from ayaflow.consume.packets import PacketPart, Packets
from ayaflow.consume.reading import Part, Skipped
from common.errors import AyaflowError, DecodeError, ServiceUnavailable, SettingsError

__all__ = [
    "AyaflowError",
    "DecodeError",
    "FlowPart",
    "Flows",
    "PacketPart",
    "Packets",
    "Part",
    "ServiceUnavailable",
    "SettingsError",
    "Skipped",
    "read_flows",
    "read_packets",
]
