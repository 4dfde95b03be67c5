"""Settings: one YAML file, `AYAFLOW_*` environment, command-line flags; the later wins.

`AYAFLOW_KAFKA_BOOTSTRAP_SERVERS=…` sets `kafka.bootstrap_servers`. Every setting is described once, in the file of its
section; docs/configuration.md is checked against them by a test. Unknown keys are errors that name the nearest one.
"""

from common.settings.capture import CaptureSettings
from common.settings.clickhouse import ClickHouseSettings
from common.settings.console import ConsoleSettings, LiveSettings
from common.settings.kafka import FIXED_PROPERTIES, KafkaSettings
from common.settings.loading import CONFIG_ENV, environment_name, load, parse_assignment, setting_names
from common.settings.local import LocalSettings
from common.settings.log import LogSettings
from common.settings.names import NamesSettings
from common.settings.producer import ProducerSettings
from common.settings.registry import SchemaRegistrySettings
from common.settings.root import ENV_PREFIX, Settings
from common.settings.storage import StorageSettings
from common.settings.streams import StreamsSettings

__all__ = [
    "CONFIG_ENV",
    "ENV_PREFIX",
    "FIXED_PROPERTIES",
    "CaptureSettings",
    "ClickHouseSettings",
    "ConsoleSettings",
    "KafkaSettings",
    "LiveSettings",
    "LocalSettings",
    "LogSettings",
    "NamesSettings",
    "ProducerSettings",
    "SchemaRegistrySettings",
    "Settings",
    "StorageSettings",
    "StreamsSettings",
    "environment_name",
    "load",
    "parse_assignment",
    "setting_names",
]
