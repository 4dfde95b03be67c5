"""Settings: one YAML file, `AYAFLOW_*` environment, command-line flags; the later wins.

`AYAFLOW_KAFKA_BOOTSTRAP_SERVERS=…` sets `kafka.bootstrap_servers`. Every setting is described here once;
docs/configuration.md is checked against this file by a test. Unknown keys are errors that name the nearest one.
"""

import difflib
import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from common.errors import SettingsError

ENV_PREFIX = "AYAFLOW_"
CONFIG_ENV = "AYAFLOW_CONFIG"


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _from_text(cls, value: Any, info: ValidationInfo) -> Any:
        """The environment and --set give text: lists are separated by commas, mappings are YAML."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, str) and get_origin(kind) is list:
            return [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str) and kind == dict[str, str]:
            return yaml.safe_load(value)
        return value


class CaptureSettings(Section):
    """What is watched on this node."""

    interfaces: list[str] = Field(
        [],
        description="Interfaces to watch, also when they come later: names, globs such as eth*, !name to leave out, "
        "auto for those that carry a default route. Empty: auto. With a slash, of a namespace: NAMESPACE/INTERFACE.",
    )
    namespaces: bool = Field(
        False,
        description="Watch interfaces in the network namespaces of /run/netns too: those that a pattern with a slash "
        "in capture.interfaces matches, or else all but the loopback ones.",
    )
    ring_bytes: int = Field(
        16 << 20, ge=1 << 16, le=1 << 30, description="Size of the kernel's ring buffer; a power of two."
    )
    detail: Literal["packet", "flow"] = Field(
        "packet",
        description="packet: the kernel sends an event a packet, and adds packets up by flow only when the ring buffer "
        "is nearly full. flow: it always adds them up; once a second a flow's sums are sent.",
    )
    flow_entries: int = Field(
        131_072,
        ge=1024,
        le=1 << 24,
        description="Room of the kernel's flow table, of which it has two: a flow takes an entry a second. "
        "An entry takes about 180 bytes.",
    )
    orphan_timeout_seconds: int = Field(
        300,
        ge=5,
        description="After so long without a producer the kernel program does nothing, until one starts again.",
    )
    epoch_ms: int = Field(
        500,
        ge=50,
        le=10_000,
        description="How often the kernel's counters are closed and the node's clock is sent (ms); with detail: flow "
        "also the flows' sums, and at least 1000.",
    )
    decapsulate: list[Literal["vxlan", "geneve", "gre", "ipip", "gtpu"]] = Field(
        [],
        description="Tunnels that are opened: a flow is then the inner one, with the tunnel beside it. ipip stands for "
        "IPv4 and IPv6 in either. Empty: a tunnel is a flow like others.",
    )
    bpffs: Path = Field(
        Path("/sys/fs/bpf"),
        description="Where the kernel's BPF file system is mounted; pins go to ayaflow/NODE below it.",
    )


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
    metrics_listen: str = Field("127.0.0.1:9464", description="Address of /metrics and /health of the producer.")


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
    """The Kafka cluster, and the local broker of `ayaflow up`."""

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
        description="More librdkafka properties, for instance security.protocol; Faust gets those it knows. They win "
        "over our defaults; what exactness hangs on, such as acks or group.id, is refused.",
    )
    partitions: int = Field(4, ge=1, le=10_000, description="Partitions of a topic that does not exist yet.")
    replication_factor: int = Field(1, ge=1, le=10, description="Replicas of a topic that does not exist yet.")
    packets_retention_hours: float = Field(
        24, gt=0, description="How long packets, and what is windowed from them, can be read again."
    )
    packets_retention_bytes: int = Field(
        10 << 30, gt=0, description="Largest size of one partition of the packets topics."
    )
    local_heap_mb: int = Field(512, ge=128, description="Java heap of the local broker (`ayaflow kafka`).")
    local_controller_port: int = Field(
        9093, ge=1, le=65_535, description="Controller port of the local broker, on 127.0.0.1."
    )
    jars_dir: Path = Field(
        Path(__file__).parent.parent / "deploy/local/jars", description="Kafka's jars, put there by make setup."
    )

    @field_validator("properties")
    @classmethod
    def _not_what_exactness_hangs_on(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if why := FIXED_PROPERTIES.get(name.removeprefix("topic.")):
                # not a ValueError, which would be shown with all of the properties: passwords are among them
                raise SettingsError(f"kafka.properties: {name} cannot be set there, because {why}")
        return value


class SchemaRegistrySettings(Section):
    """A Confluent-compatible schema registry."""

    url: str | None = Field(
        None, description="Ids come from this registry; without it they are fixed, and the console serves them."
    )


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
    metrics_listen: str = Field("127.0.0.1:9465", description="Address of /metrics and /health of the streams app.")


class ClickHouseSettings(Section):
    """The ClickHouse server, and the embedded one of `ayaflow up`."""

    url: str = Field("http://127.0.0.1:8123", pattern=r"^https?://", description="HTTP interface.")
    database: str = Field("ayaflow", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Database of our tables.")
    username: str = Field("default", description="User.")
    password: str = Field("", description="Password.")
    cluster: str | None = Field(None, description="Make Replicated and Distributed tables on this cluster.")
    flows_retention_days: int = Field(90, ge=1, description="TTL of the raw windows.")
    rollup_retention_days: int = Field(730, ge=1, description="TTL of flows_1m and flows_1h.")


class ConsoleSettings(Section):
    """The HTTP service."""

    listen: str = Field("127.0.0.1:8080", description="Address of the dashboard, the API and the schema registry.")
    allowed_ips: list[str] = Field(
        [], description="Networks that may ask, others get 403; empty: all that can reach console.listen."
    )
    trusted_proxies: list[str] = Field(
        [], description="Networks of proxies whose X-Forwarded-For names the client; others' is ignored."
    )
    tokens: list[str] = Field(
        [], description="SHA-256 hashes (`ayaflow hash-token`); with one, a bearer token must be sent."
    )
    tls_certificate: Path | None = Field(None, description="PEM file with the certificate chain; serves HTTPS.")
    tls_key: Path | None = Field(None, description="PEM file with the certificate's key.")
    heavy_queries: int = Field(
        4, ge=1, le=64, description="Queries that ClickHouse may answer for the API at a time; more wait, then get 429."
    )
    query_seconds: int = Field(15, ge=1, le=3600, description="max_execution_time of a query of the API.")
    query_rows: int = Field(
        2_000_000_000, ge=1, description="max_rows_to_read of a query of the API: rows that one may read."
    )

    @field_validator("allowed_ips", "trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for text in value:
            ipaddress.ip_network(text, strict=False)
        return value

    @field_validator("tokens")
    @classmethod
    def _hashes(cls, value: list[str]) -> list[str]:
        for text in value:
            if len(text) != 64 or not set(text.lower()) <= set("0123456789abcdef"):
                raise ValueError("a token is given by its SHA-256 hash; `ayaflow hash-token` makes it")
        return value

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if (self.tls_certificate is None) is not (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        return self


class LiveSettings(Section):
    """The live view."""

    connection_timeout_seconds: float = Field(
        60, gt=0, le=3600, description="A connection without a packet for this long is no longer active."
    )


class LogSettings(Section):
    """Logs."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is written.")
    format: Literal["auto", "text", "json"] = Field("auto", description="auto: text on a terminal, else JSON.")


class Settings(BaseSettings):
    """All settings. Build it with `load`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        enable_decoding=False,
        extra="forbid",
        frozen=True,
    )

    node: str = Field(
        default_factory=socket.gethostname,
        pattern=r"^[A-Za-z0-9._-]{1,200}$",
        description="This node's name; the host name by default.",
    )
    data_dir: Path = Field(
        default_factory=lambda: Path.home() / ".local/share/ayaflow",
        description="Kafka's and ClickHouse's data, logs, spool.",
    )
    capture: CaptureSettings = CaptureSettings()
    producer: ProducerSettings = ProducerSettings()
    kafka: KafkaSettings = KafkaSettings()
    schema_registry: SchemaRegistrySettings = SchemaRegistrySettings()
    streams: StreamsSettings = StreamsSettings()
    clickhouse: ClickHouseSettings = ClickHouseSettings()
    console: ConsoleSettings = ConsoleSettings()
    live: LiveSettings = LiveSettings()
    log: LogSettings = LogSettings()


def setting_names() -> dict[str, Any]:
    """Each setting's dotted name and its pydantic FieldInfo, in the order of this file."""
    return dict(_walk(Settings, ""))


def _walk(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _walk(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, info


def environment_name(setting: str) -> str:
    """`kafka.partitions` -> `AYAFLOW_KAFKA_PARTITIONS`."""
    return ENV_PREFIX + setting.replace(".", "_").upper()


def load(config: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings.

    `flags` are dotted names to values, from the command line; None values are left out. `config` defaults to
    AYAFLOW_CONFIG. Raises SettingsError with a sentence a person can act on.
    """
    if config is None and os.environ.get(CONFIG_ENV):
        config = Path(os.environ[CONFIG_ENV])
    _check_environment()
    from_file = _read_file(config) if config else {}
    _check_names(from_file)
    from_flags: dict[str, Any] = {}
    for name, value in (flags or {}).items():
        if value is not None:
            _put(from_flags, name, value)
    _check_names(from_flags)

    class Layered(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_: PydanticBaseSettingsSource, **sources: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            file = InitSettingsSource(settings_cls, from_file)
            return sources["init_settings"], sources["env_settings"], file

    try:
        return Layered(**from_flags)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{name}: {first['msg']} (it is {first['input']!r})") from error


def parse_assignment(text: str) -> tuple[str, str]:
    """`section.key=value` of `--set`. Raises SettingsError."""
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"--set {text}: write it as section.key=value")
    if name not in setting_names():
        raise SettingsError(_unknown(f"--set {name}", name, list(setting_names())))
    return name, value


def _put(tree: dict[str, Any], name: str, value: Any) -> None:
    *sections, last = name.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
    tree[last] = value


def _read_file(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(f"{path} must be a mapping of settings at its top")
    return tree


def _check_names(tree: Mapping[str, Any]) -> None:
    known = list(setting_names())
    sections = {name.partition(".")[0] for name in known if "." in name}
    for key, value in tree.items():
        if key in sections:
            if value is not None and not isinstance(value, dict):
                raise SettingsError(f"{key} is a section; write its settings below it")
            for inner in value or {}:
                if f"{key}.{inner}" not in known:
                    raise SettingsError(_unknown(f"{key}.{inner}", f"{key}.{inner}", known))
        elif key not in known:
            raise SettingsError(_unknown(str(key), str(key), [*sections, *known]))


def _check_environment() -> None:
    known = {environment_name(name): name for name in setting_names()}
    for variable in os.environ:
        if variable.startswith(ENV_PREFIX) and variable not in known and variable != CONFIG_ENV:
            raise SettingsError(_unknown(f"environment variable {variable}", variable, [*known, CONFIG_ENV]))


def _unknown(what: str, word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if not near and "." in word:  # the right key in the wrong section
        near = [name for name in known if name.rpartition(".")[2] == word.rpartition(".")[2]]
    return f"{what} is not a setting" + (
        f"; did you mean {near[0]}?" if near else "; docs/configuration.md lists them all"
    )
