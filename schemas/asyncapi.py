"""Our topics and messages as an AsyncAPI document, made of `schemas.topics` and the .avsc files. Pure."""

import json
from collections.abc import Mapping
from typing import Any

from common.settings import KafkaSettings
from schemas.avro.registry import newest, shown
from schemas.topics import DEAD_LETTER_HEADERS, OPERATOR, Topic, TopicNames, described

AVRO = "application/vnd.apache.avro+json;version=1.9.0"  # of the schemas
CONTENT_TYPE = "avro/binary"
_BINDING = "0.5.0"  # version of AsyncAPI's binding for Kafka
_RAW = "DeadLetter"
_FINDING = "Finding"
_OPERATORS = "operator"  # id of the channel that stands for all of theirs

_ABOUT = """\
Which hosts talk to whom: packets that nodes saw, and the flows they make.

Values are Avro in Confluent's framing: a zero octet, the schema's id in four octets (big-endian), the record; those of
operators are JSON. Ids are those of the schema registry, subjects are TOPIC-value. Keys are plain UTF-8 text without a
schema or framing. Schemas only change so that a new one reads what all before it wrote (BACKWARD_TRANSITIVE). ayaflow
makes topics as they are described here where they are missing, and leaves those that exist as they are."""

_OPERATIONS = (  # id, action, attribute of TopicNames, who does it
    ("sendPackets", "send", "packets", "The producer on each node."),
    ("sendPacketEvents", "send", "packet_events", "The producer on each node, with `producer.encoding: record`."),
    ("sendNames", "send", "names", "The producer on each node, with `capture.inspect`."),
    ("receivePackets", "receive", "packets", "Streams: windows packets into flows."),
    ("receiveNames", "receive", "names", "Streams: stores them in the table `names`."),
    ("sendFlows", "send", "flows", "Streams, when a window is stored; not with `streams.publish_flows: false`."),
    ("sendLive", "send", "live", "Streams, once a second."),
    ("receiveLive", "receive", "live", "The console's live view."),
    ("sendDeadLetters", "send", "dead_letter", "Streams."),
)
_FINDERS = "The operators of streams, when a window is stored; with `streams.operators`."


def document(kafka: KafkaSettings, *, group: str, registry_url: str, version: str) -> dict[str, Any]:
    """The document, as JSON has it. `group`: the consumer group of streams. `version`: ayaflow's."""
    names, made = TopicNames.of(kafka.topic_prefix), described(kafka)
    values = {topic: name for name, topic in names.by_schema().items()} | {names.dead_letter: _RAW}
    channels = {
        _channel_id(kafka, topic.name): _channel(topic, values.get(topic.name, _FINDING), kafka) for topic in made
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ayaflow",
            "version": version,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": _servers(kafka, registry_url),
        "channels": channels,
        "operations": {
            name: _operation(action, _channel_id(kafka, getattr(names, topic)), who, channels)
            | ({"bindings": _group(group)} if action == "receive" and topic in {"packets", "names"} else {})
            for name, action, topic, who in _OPERATIONS
        }
        | {"sendFindings": _operation("send", _OPERATORS, _FINDERS, channels)},
        "components": {
            "messages": {name: _message(topic, name) for topic in made for name in [values.get(topic.name, _FINDING)]}
        },
    }


def _servers(kafka: KafkaSettings, registry_url: str) -> dict[str, Any]:
    safe = kafka.properties.get("security.protocol", "plaintext").lower() != "plaintext"
    hosts = [each.strip().rpartition("//")[2] for each in kafka.bootstrap_servers.split(",") if each.strip()]
    return {
        f"kafka{number}": {
            "host": host,
            "protocol": "kafka-secure" if safe else "kafka",
            "bindings": _bound({"schemaRegistryUrl": shown(registry_url), "schemaRegistryVendor": "confluent"}),
        }
        for number, host in enumerate(hosts, 1)
    }


def _channel_id(kafka: KafkaSettings, topic: str) -> str:
    return _OPERATORS if OPERATOR in topic else topic.removeprefix(kafka.topic_prefix)


def _channel(topic: Topic, message: str, kafka: KafkaSettings) -> dict[str, Any]:
    name = {"description": "An operator's name, with - for _.", "examples": ["port-scan", "burst"]}
    return {
        "address": topic.name,
        **({"parameters": {OPERATOR.strip("{}"): name}} if OPERATOR in topic.name else {}),
        "description": topic.about,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": _bound(
            {
                "partitions": topic.partitions,
                "replicas": kafka.replication_factor,
                "topicConfiguration": {name: _value(name, text) for name, text in topic.config.items()},
            }
        ),
    }


def _value(name: str, text: str) -> Any:
    """A property of a topic as the binding has it."""
    if name == "cleanup.policy":
        return text.split(",")
    return int(text) if text.lstrip("-").isdigit() else text


def _operation(action: str, channel: str, who: str, channels: Mapping[str, Any]) -> dict[str, Any]:
    place = f"#/channels/{channel}"
    return {
        "action": action,
        "channel": {"$ref": place},
        "summary": who,
        "messages": [{"$ref": f"{place}/messages/{message}"} for message in channels[channel]["messages"]],
    }


def _group(group: str) -> dict[str, Any]:
    return _bound({"groupId": {"type": "string", "enum": [group]}})


def _message(topic: Topic, name: str) -> dict[str, Any]:
    key = {"type": "string", "description": f"Plain UTF-8: {topic.key.about}.", "examples": [topic.key.example]}
    if name == _FINDING:
        return {
            "title": "What an operator found in a window",
            "description": f"A message may come twice, with the same record_id. {_TIMES[topic.time]}",
            "contentType": "application/json",
            "payload": _FOUND,
            "bindings": _bound({"key": key}),
        }
    if name == _RAW:
        return {
            "title": "A message that could not be decoded",
            "description": f"{topic.about} {_TIMES[topic.time]}",
            "contentType": "application/octet-stream",
            "headers": {
                "type": "object",
                "properties": {
                    name: {"type": "string", "description": about} for name, about in DEAD_LETTER_HEADERS.items()
                },
                "required": [name for name in DEAD_LETTER_HEADERS if not name.startswith("original-")],
            },
            "payload": {
                "type": "string",
                "format": "binary",
                "description": "The octets of its value; of long ones the first MiB, or what the topic takes.",
            },
            "bindings": _bound({"key": key}),
        }
    avro = json.loads(newest(name))
    return {
        "title": name,
        "description": f"{avro['doc']} {_TIMES[topic.time]}",
        "contentType": CONTENT_TYPE,
        "payload": {"schemaFormat": AVRO, "schema": avro},
        "bindings": _bound(
            {
                "key": key,
                "schemaIdLocation": "payload",
                "schemaIdPayloadEncoding": "confluent",
                "schemaLookupStrategy": "TopicNameStrategy",
            }
        ),
    }


_FOUND = {
    "type": "object",
    "properties": {
        "record_id": {"type": "string", "description": "Of the finding; the same when it comes twice."},
        "window_begin": {"type": "string", "format": "date-time", "description": "Of the window, in UTC."},
        "window_seconds": {"type": "integer", "description": "Length of the window."},
        "revision": {
            "type": "integer",
            "description": "0: of the window as it was closed; later ones: of what was late.",
        },
    },
    "required": ["record_id", "window_begin", "window_seconds", "revision"],
    "additionalProperties": True,  # the operator's own columns
}
_TIMES = {
    "broker": "Kafka's time stamp is the time at which the broker took the message.",
    "event": "Kafka's time stamp is the event's time; the time of sending where that is long ago or ahead.",
}


def _bound(values: dict[str, Any]) -> dict[str, Any]:
    return {"kafka": {**values, "bindingVersion": _BINDING}}
