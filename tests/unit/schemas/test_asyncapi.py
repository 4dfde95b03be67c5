"""The AsyncAPI document and docs/topics.md are what the code makes and sends."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np

from common.settings import KafkaSettings
from schemas.asyncapi import document
from schemas.avro.registry import NAMES, newest
from schemas.community_id import community_ids
from schemas.topics import COMMUNITY_ID, described

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
MAKE = runpy.run_path(str(DOCS / "make_messages.py"))


def made(**settings: Any) -> Any:
    kafka = KafkaSettings(**settings)
    return document(kafka, group="g", registry_url="https://me:secret@registry:8081", version="9")


def test_the_committed_document_and_the_tables_of_the_page_are_those_of_the_code() -> None:
    assert (DOCS / "asyncapi.json").read_text() == MAKE["asyncapi"](), "run: make docs"
    page = (DOCS / "topics.md").read_text()
    assert MAKE["page"](page) == page, "run: make docs"


def test_the_table_of_the_readme_has_the_same_topics() -> None:
    rows = re.findall(r"^\| `(ayaflow\.[\w.{}-]+)` \| (?:`(\w+)`)?", (ROOT / "README.md").read_text(), re.MULTILINE)
    messages = json.loads((DOCS / "asyncapi.json").read_text())["channels"].values()
    assert rows == [(each["address"], name if name in NAMES else "") for each in messages for name in each["messages"]]


def test_each_topic_is_a_channel_with_the_properties_that_it_is_made_with() -> None:
    settings = {"topic_prefix": "lab.", "partitions": 7, "replication_factor": 3, "packets_retention_hours": 48}
    channels = made(**settings)["channels"]
    wanted = {each.name: each for each in described(KafkaSettings(**settings))}
    assert {each["address"] for each in channels.values()} == set(wanted)
    for each in channels.values():
        binding, topic = each["bindings"]["kafka"], wanted[each["address"]]
        assert (binding["partitions"], binding["replicas"]) == (topic.partitions, 3)
        told = {name: str(value) for name, value in binding["topicConfiguration"].items()}
        assert told == topic.config | {"cleanup.policy": "['delete']"}
    assert channels["packets"]["bindings"]["kafka"]["topicConfiguration"]["retention.ms"] == 48 * 3_600_000


def test_each_message_has_the_newest_schema_and_a_key_that_is_text() -> None:
    messages = made()["components"]["messages"]
    assert set(messages) == {*NAMES, "DeadLetter", "Finding"}
    for name in NAMES:
        assert messages[name]["payload"]["schema"] == json.loads(newest(name))
    keys = [each["bindings"]["kafka"]["key"] for each in messages.values()]
    assert {key["type"] for key in keys} == {"string"}


def test_each_operation_is_of_a_channel_that_is_there() -> None:
    found = made()
    for operation in found["operations"].values():
        channel = found["channels"][operation["channel"]["$ref"].removeprefix("#/channels/")]
        assert [each["$ref"].rpartition("/")[2] for each in operation["messages"]] == list(channel["messages"])
    assert found["operations"]["receivePackets"]["bindings"]["kafka"]["groupId"]["enum"] == ["g"]


def test_servers_are_the_brokers_and_no_password_is_told() -> None:
    found = made(
        bootstrap_servers="SASL_SSL://kafka1:9093, [::1]:9093",
        properties={"security.protocol": "SASL_SSL", "sasl.password": "secret"},
    )
    assert [(each["host"], each["protocol"]) for each in found["servers"].values()] == [
        ("kafka1:9093", "kafka-secure"),
        ("[::1]:9093", "kafka-secure"),
    ]
    assert "https://registry:8081" in json.dumps(found)
    assert "secret" not in json.dumps(found)


def test_the_community_id_that_is_shown_is_one() -> None:
    """The first of the specification's own examples."""
    addresses = np.array(
        [[*bytes(10), 255, 255, 128, 232, 110, 120], [*bytes(10), 255, 255, 66, 35, 250, 204]], np.uint8
    )
    columns = {"src_port": 34855, "dst_port": 80, "icmp_type": 0, "icmp_code": 0}
    kinds = {"src_port": np.uint16, "dst_port": np.uint16, "icmp_type": np.int16, "icmp_code": np.uint8}
    assert community_ids(
        protocol=np.array([6], np.uint8),
        src_addr=addresses[:1],
        dst_addr=addresses[1:],
        **{name: np.array([value], kinds[name]) for name, value in columns.items()},
    ) == [COMMUNITY_ID.example]
