"""The settings of streams."""

from typing import Any

from pydantic import Field

from common.settings.base import Section


class StreamsSettings(Section):
    """The Faust app that windows packets into flows."""

    app_id: str = Field(
        "ayaflow-streams",
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Kafka consumer group; workers with the same id share the partitions.",
    )
    window_seconds: int = Field(
        10, ge=1, le=3600, description="Length of a tumbling window, aligned to the Unix epoch."
    )
    node_timeout_seconds: float = Field(
        10,
        gt=0,
        description="A node whose clock is silent for this long no longer holds back the windows of its partition.",
    )
    live_top: int = Field(50, ge=1, le=1000, description="Connections in each LiveStats message.")
    publish_flows: bool = Field(True, description="Send each flow record to the flows topic too.")
    operators: list[str] = Field(
        [], description="What looks at each stored window: port_scan, burst, or MODULE:CLASS of one's own."
    )
    operator_options: dict[str, dict[str, Any]] = Field(
        {}, description="Arguments of operators, by name: {port_scan: {targets: 100}}."
    )
    metrics_listen: str = Field("127.0.0.1:9465", description="Address of /metrics and /health of the streams app.")
