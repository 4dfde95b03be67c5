"""When a capture does what, by the settings. Pure."""

from dataclasses import dataclass

from common.settings import CaptureSettings, ProducerSettings

ONLY_FLOWS_EPOCH_NS = 1_000_000_000  # an entry of the flow table is of one second: shorter epochs would divide it
_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When things are done."""

    epoch_ns: int
    flush_ns: int
    batch_bytes: int  # of the ring
    batch_entries: int  # of the flow table
    flow_entries: int  # that the kernel's flow table has room for
    only_flows: bool = False  # capture.detail: flow

    @classmethod
    def of(cls, settings: ProducerSettings, capture: CaptureSettings, *, ring_bytes: int, stride: int) -> "Timing":
        """From the settings; a batch never takes more than a quarter of the ring, which must go on filling.

        `stride`: octets of a record.
        """
        return cls(
            epoch_ns=max(capture.epoch_ms * _MS, ONLY_FLOWS_EPOCH_NS if capture.detail == "flow" else 0),
            flush_ns=settings.flush_ms * _MS,
            batch_bytes=min(settings.batch_packets, max(1, ring_bytes // 4 // stride)) * stride,
            batch_entries=settings.batch_packets,
            flow_entries=capture.flow_entries,
            only_flows=capture.detail == "flow",
        )
