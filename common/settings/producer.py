"""The producer's settings."""

from typing import Literal

from pydantic import Field

from common.settings.base import Section


class ProducerSettings(Section):
    """From the ring buffer to Kafka."""

    encoding: Literal["batch", "record"] = Field(
        "batch",
        description="batch: PacketBatch to the packets topic; record: a PacketEvent a packet to packet-events, too.",
    )
    batch_packets: int = Field(16_384, ge=1, le=1 << 20, description="A batch is sent when it has this many packets.")
    flush_ms: int = Field(
        250, ge=1, le=250, description="A batch is sent when its oldest packet has waited this long (ms)."
    )
    spool_bytes: int = Field(
        1 << 30, ge=0, description="Batches that may wait on disk, in data_dir/spool, while Kafka is away; 0: none."
    )
    user: str | None = Field(
        None,
        description="Who the producer is, when root starts it, from the moment on that its program is loaded; none: "
        "`ayaflow`, if it can be; `root`: root. Whoever it is has no capability.",
    )
    metrics_listen: str = Field("127.0.0.1:9464", description="Address of /metrics and /health of the producer.")
