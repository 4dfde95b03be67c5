"""The Kafka cluster's settings, and what of a client's properties is not the user's to choose."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from common.errors import SettingsError
from common.settings.base import Section

_STORED = "totals are exact only while Kafka stores each message once and in its order. Remove it"
_READ = "totals are exact only while we say ourselves what is read, from where, and what is done. Remove it"
_CUT = "messages are cut to fit by us; a topic's max.message.bytes may be raised. Remove it"
FIXED_PROPERTIES: Mapping[str, str] = {  # librdkafka's names, with their aliases: why kafka.properties may not set it
    **dict.fromkeys(("bootstrap.servers", "metadata.broker.list"), "kafka.bootstrap_servers names them. Set that"),
    **dict.fromkeys(
        (
            "enable.idempotence",
            "acks",
            "request.required.acks",
            "max.in.flight",
            "max.in.flight.requests.per.connection",
            "retries",
            "message.send.max.retries",
            "message.timeout.ms",
            "delivery.timeout.ms",
            "delivery.report.only.error",
            "queuing.strategy",
            "partitioner",
            "transactional.id",
        ),
        _STORED,
    ),
    **dict.fromkeys(("group.id", "group.instance.id"), "streams.app_id is the group. Set that"),
    **dict.fromkeys(
        (
            "enable.auto.commit",
            "auto.commit.enable",
            "enable.auto.offset.store",
            "auto.offset.reset",
            "isolation.level",
            "enable.partition.eof",
        ),
        _READ,
    ),
    "message.max.bytes": _CUT,
}


class KafkaSettings(Section):
    """The Kafka cluster."""

    bootstrap_servers: str = Field("127.0.0.1:9092", description="host:port, separated by commas.")
    topic_prefix: str = Field(
        "ayaflow.",
        pattern=r"^[A-Za-z0-9._-]*$",
        description="Put before packets, packet-events, flows, live and dead-letter.",
    )
    compression: Literal["zstd", "lz4", "none"] = Field(
        "zstd", description="Compression of what we produce. Packets take a sixth less room with zstd than with lz4."
    )
    properties: dict[str, str] = Field(
        {},
        repr=False,  # of passwords
        description="More librdkafka properties, for instance security.protocol; Faust and Kafka's tools get those "
        "about logging in. They win over our defaults; what exactness hangs on, such as acks or group.id, is refused. "
        "`${file:/run/secrets/x}` in a value is that file's text, `${env:X}` that variable's.",
    )
    partitions: int = Field(4, ge=1, le=10_000, description="Partitions of a topic that does not exist yet.")
    replication_factor: int = Field(1, ge=1, le=10, description="Replicas of a topic that does not exist yet.")
    packets_retention_hours: float = Field(
        24, gt=0, le=876_000, description="How long packets, and what is windowed from them, can be read again."
    )
    packets_retention_bytes: int = Field(
        10 << 30, gt=0, le=2**63 - 1, description="Largest size of one partition of the packets topics."
    )

    @field_validator("properties")
    @classmethod
    def _not_what_exactness_hangs_on(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if why := FIXED_PROPERTIES.get(name.removeprefix("topic.")):
                # not a ValueError, which would be shown with all of the properties: passwords are among them
                raise SettingsError(f"kafka.properties: {name} cannot be set there, because {why}")
        return value
