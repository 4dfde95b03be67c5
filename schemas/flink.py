"""Our topics as tables of Flink SQL, made of the schemas of their messages. Pure."""

import json
from typing import Any

from schemas.avro.registry import newest
from schemas.topics import TopicNames

_TABLES = {
    "PacketBatch": "packets",
    "PacketEvent": "packet_events",
    "FlowRecord": "flows",
    "LiveStats": "live",
    "NameBatch": "names",
}
_TYPES = {"string": "STRING", "int": "INT", "long": "BIGINT", "boolean": "BOOLEAN"}
_MILLISECONDS = "TIMESTAMP(3)"  # in UTC; the format refuses TIMESTAMP_LTZ
_EVENT_TIMES = {  # its column, the microseconds that it is made of where there are only these, how late messages may be
    "PacketBatch": ("clock_time", "clock_us", "INTERVAL '10' SECOND"),
    "PacketEvent": ("packet_time", "time_us", "INTERVAL '10' SECOND"),
    "FlowRecord": ("window_begin", None, "INTERVAL '1' MINUTE"),
    "NameBatch": ("clock_time", "clock_us", "INTERVAL '10' SECOND"),
    "LiveStats": ("time", None, "INTERVAL '10' SECOND"),
}


def ddl(topics: TopicNames, bootstrap_servers: str, registry_url: str) -> str:
    """Statements that make a table of each topic: flows, packets, packet_events, live, names."""
    return "\n".join(_table(*each, bootstrap_servers, registry_url) for each in topics.by_schema().items())


def _table(name: str, topic: str, bootstrap_servers: str, registry_url: str) -> str:
    schema = json.loads(newest(name))
    time, microseconds, delay = _EVENT_TIMES[name]
    columns = [f"`{field['name']}` {_type(field['type'])}" for field in schema["fields"]]
    if microseconds:
        columns.append(f"`{time}` AS TO_TIMESTAMP_LTZ(`{microseconds}` / 1000, 3)")
    columns.append(f"WATERMARK FOR `{time}` AS `{time}` - {delay}")
    options = {
        "connector": "kafka",
        "topic": topic,
        "properties.bootstrap.servers": bootstrap_servers,
        "scan.startup.mode": "earliest-offset",
        "scan.watermark.idle-timeout": "30 s",  # a partition without messages holds up no window
        "format": "avro-confluent",
        "avro-confluent.url": registry_url,
    }
    return (
        f"CREATE TABLE `{_TABLES[name]}` (\n  "
        + ",\n  ".join(columns)
        + "\n) WITH (\n  "
        + ",\n  ".join(f"{_text(key)} = {_text(value)}" for key, value in options.items())
        + "\n);\n"
    )


def _type(avro: Any) -> str:
    if isinstance(avro, str):
        return _TYPES[avro]
    if avro["type"] == "array":
        return f"ARRAY<{_type(avro['items'])}>"
    return _MILLISECONDS if avro.get("logicalType") == "timestamp-millis" else _TYPES[avro["type"]]


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
