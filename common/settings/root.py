"""All settings together. Only what a user starts reads them; a part is given its section."""

import os
import socket
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from common.settings.capture import CaptureSettings
from common.settings.clickhouse import ClickHouseSettings
from common.settings.console import ConsoleSettings, LiveSettings
from common.settings.kafka import KafkaSettings
from common.settings.local import LocalSettings
from common.settings.log import LogSettings
from common.settings.names import NamesSettings
from common.settings.producer import ProducerSettings
from common.settings.registry import SchemaRegistrySettings
from common.settings.storage import StorageSettings
from common.settings.streams import StreamsSettings

ENV_PREFIX = "AYAFLOW_"


class Settings(BaseModel):
    """All settings. Build it with `load`."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)  # the host's name, too

    node: str = Field(
        default_factory=socket.gethostname,
        pattern=r"^[A-Za-z0-9._-]{1,200}$",
        description="This node's name; the host name by default.",
    )
    data_dir: Path = Field(
        default_factory=lambda: Path("/var/lib/ayaflow") if os.geteuid() == 0 else Path.home() / ".local/share/ayaflow",
        description="Kafka's and ClickHouse's data, logs, spool; for its owner only.",
    )
    capture: CaptureSettings = CaptureSettings()
    producer: ProducerSettings = ProducerSettings()
    kafka: KafkaSettings = KafkaSettings()
    schema_registry: SchemaRegistrySettings = SchemaRegistrySettings()
    streams: StreamsSettings = StreamsSettings()
    clickhouse: ClickHouseSettings = ClickHouseSettings()
    storage: StorageSettings = StorageSettings()
    console: ConsoleSettings = ConsoleSettings()
    live: LiveSettings = LiveSettings()
    names: NamesSettings = NamesSettings()
    log: LogSettings = LogSettings()
    local: LocalSettings = LocalSettings()
