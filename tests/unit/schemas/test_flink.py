"""Our topics as tables of Flink SQL; `make test-consumers` runs them in Flink."""

import json
import re

import pytest

from cli.main import main
from schemas.avro.registry import NAMES, newest
from schemas.flink import ddl
from schemas.topics import TopicNames

TABLES = ddl(TopicNames.of("site."), "kafka1:9092,kafka2:9092", "http://registry/it's")


def test_each_topic_is_a_table_with_all_fields_of_its_messages() -> None:
    found = re.findall(r"CREATE TABLE `(\w+)` \((.*?)\n\) WITH \(.*?'topic' = '([\w.-]+)'", TABLES, re.DOTALL)
    assert [(table, topic) for table, _, topic in found] == [
        ("packets", "site.packets"),
        ("packet_events", "site.packet-events"),
        ("flows", "site.flows"),
        ("live", "site.live"),
        ("names", "site.names"),
    ]
    for name, (_, columns, _) in zip(NAMES, found, strict=True):
        fields = [field["name"] for field in json.loads(newest(name))["fields"]]
        assert re.findall(r"^  `(\w+)` [A-Z]+[<(,\n]", columns + "\n", re.MULTILINE)[: len(fields)] == fields
        assert columns.count("WATERMARK FOR") == 1


def test_types_are_those_that_the_format_reads_as_they_are() -> None:
    for line in (
        "`window_begin` TIMESTAMP(3),",
        "`record_id` STRING,",
        "`primary` BOOLEAN,",
        "`bytes` BIGINT,",
        "`flow_src_addr` ARRAY<STRING>,",
        "`flow` ARRAY<INT>,",
        "`time_offset_ns` ARRAY<BIGINT>,",
        "`clock_time` AS TO_TIMESTAMP_LTZ(`clock_us` / 1000, 3),",
    ):
        assert f"  {line}\n" in TABLES


def test_an_apostrophe_does_not_end_a_value() -> None:
    assert "'avro-confluent.url' = 'http://registry/it''s'\n" in TABLES


def test_the_command_takes_addresses_from_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--set", "console.listen=0.0.0.0:8099", "--set", "kafka.topic_prefix=site.")
    assert main(["schemas", "ddl", "flink", *words]) == 0
    assert capsys.readouterr().out == ddl(
        TopicNames.of("site."), "127.0.0.1:9092", "http://127.0.0.1:8099/schema-registry"
    )
    assert main(["schemas", "ddl", "flink", "--set", "schema_registry.url=http://registry1:8081"]) == 0
    assert capsys.readouterr().out.count("'http://registry1:8081'") == len(NAMES)
