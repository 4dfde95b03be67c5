"""What only the servers of a local installation need."""

from pathlib import Path

from pydantic import Field

from common.settings.base import Section


class LocalSettings(Section):
    """The Kafka and ClickHouse that run on this machine, for `ayaflow up`."""

    kafka_heap_mb: int = Field(512, ge=128, description="Java heap of the local broker (`ayaflow kafka`).")
    kafka_controller_port: int = Field(
        9093, ge=1, le=65_535, description="Controller port of the local broker, on 127.0.0.1."
    )
    user: str | None = Field(
        None,
        description="Whose Kafka, ClickHouse, streams and console are when root runs `ayaflow up`; none: of who called "
        "sudo, else `ayaflow`; `root`: root's.",
    )
    kafka_jars_dir: Path | None = Field(None, description="Kafka's jars; none: where make setup puts them.")
