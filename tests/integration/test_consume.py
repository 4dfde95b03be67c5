"""ayaflow.consume with a real Kafka: each record and packet once, whatever becomes of readers, topics and brokers."""

import dataclasses
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer, TopicPartition

from ayaflow.consume import FlowPart, Flows, Packets, SettingsError
from ayaflow.consume.reading import Part
from common import kafka
from schemas.avro.records import decode_record, encode_record
from schemas.avro.registry import HEADER, newest
from schemas.packets import PacketBatch
from tests.consumers import page
from tests.integration.fix_consume import HOUR, NOW, PACKETS, Killed, Site, collect, ids, site, sliced
from tests.unit.streams.batches import STRIDE, Packet, batch, coalesced
from tests.waiting import HANG_SECONDS, until

__all__ = ["site"]

pytestmark = pytest.mark.kafka


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def test_a_range_is_all_that_is_there_each_record_once(site: Site) -> None:
    records = site.records(5000)
    site.send_records(records + records[1000:3000] + site.records(500, revision=1) + records[:10])
    with Flows(site.kafka, topic=site.topics.flows) as reader:
        parts = list(reader)
        assert list(reader) == []
    found = ids(parts)
    assert len(found) == 5500
    assert {*found.values()} == {1}
    assert sum(part.duplicates for part in parts) == 2010
    assert sum(sum(part.table["packets"].to_pylist()) for part in parts) == 3 * 5500
    assert {number for part in parts for number in part.offsets} == {0, 1, 2, 3}
    assert not any(part.skipped or part.missing for part in parts)


def test_a_range_is_of_windows_whenever_their_records_were_sent(site: Site) -> None:
    for hour in range(4):
        site.send_records(site.records(10, window=NOW + hour * HOUR), stamp=NOW + hour * HOUR)
    site.send_records(site.records(3, window=NOW + HOUR, revision=1), stamp=NOW + 3 * HOUR)  # late
    span = {"since": moment(NOW + HOUR), "until": moment(NOW + 2 * HOUR)}

    def rows(**more: Any) -> int:
        with Flows(site.kafka, topic=site.topics.flows, **{**span, **more}) as reader:
            parts = list(reader)
        assert {each for part in parts for each in part.table["window_begin"].to_pylist()} <= {span["since"]}
        return sum(map(len, parts))

    assert rows() == 13
    assert rows(late=timedelta(minutes=30)) == 10
    assert rows(late=timedelta(hours=3)) == 13
    assert rows(since=moment(NOW + 10 * HOUR), until=moment(NOW + 11 * HOUR)) == 0


def test_what_is_not_primary_comes_when_it_is_asked_for(site: Site) -> None:
    schema = newest("FlowRecord")
    (_, first), (_, second) = site.records(2)
    other = decode_record(second[HEADER.size :], schema)
    site.send(site.topics.flows, [first, second[: HEADER.size] + encode_record({**other, "primary": False}, schema)])
    for primary_only, rows in ((True, 1), (False, 2)):
        with Flows(site.kafka, topic=site.topics.flows, primary_only=primary_only) as reader:
            assert sum(map(len, reader)) == rows


def test_a_group_goes_on_where_it_was_and_knows_what_came_before(site: Site) -> None:
    records = site.records(4000)
    site.send_records(records)
    with Flows(site.kafka, group="g", topic=site.topics.flows) as reader:
        first = collect(reader, 4000)
    site.send_records(records[500:1500] + site.records(700, revision=1))  # streams was killed
    with Flows(site.kafka, group="g", topic=site.topics.flows) as reader:
        second = collect(reader, 700)
        assert sum(part.duplicates for part in second) == 1000
    assert {*ids(first + second).values()} == {1}
    assert min(offsets.start for part in second for offsets in part.offsets.values()) > 0


def test_what_was_not_committed_comes_again(site: Site) -> None:
    site.send_records(site.records(1000))
    with Flows(site.kafka, group="g", topic=site.topics.flows) as reader:
        got = 0

        def some() -> bool:
            nonlocal got
            got += len(reader.poll(0.5) or ())
            return got == 1000

        until(some)
    with Flows(site.kafka, group="g", topic=site.topics.flows) as reader:
        assert sum(map(len, collect(reader, 1000))) == 1000


def test_a_record_is_forgotten_beyond_what_is_remembered(site: Site) -> None:
    """The bound is one: so that nobody takes more than a number of messages for remembered."""
    one = Site(site.kafka, partitions=1)
    records = one.records(300)
    one.send_records(records)
    with Flows(one.kafka, group="g", topic=one.topics.flows, remember=100) as reader:
        collect(reader, 300)
    one.send_records(records[250:] + records[:50])
    with Flows(one.kafka, group="g", topic=one.topics.flows, remember=100) as reader:
        parts = collect(reader, 50)
    assert sum(part.duplicates for part in parts) == 50
    first = [decode_record(value[HEADER.size :], newest("FlowRecord"))["record_id"] for _, value in records[:50]]
    assert ids(parts).keys() == {*first}


def test_members_of_a_group_share_and_none_gets_what_another_committed(site: Site) -> None:
    """One after the other joins and leaves while records come, some of them twice."""
    total, over = 12_000, threading.Event()
    parts: list[FlowPart] = []
    lost: list[int] = []

    def read(until_rows: int | None) -> None:
        with Flows(site.kafka, group="g", topic=site.topics.flows) as reader:
            rows = 0
            while not over.is_set() and (until_rows is None or rows < until_rows):
                part = reader.poll(0.2)
                if part is None:
                    continue
                if part.commit():
                    rows += len(part)
                    parts.append(part)
                else:
                    lost.append(len(part))

    threads = [threading.Thread(target=read, args=(rows,)) for rows in (None, 500, 1500)]
    try:
        for number, some in enumerate(sliced(site.records(total), 1000)):
            site.send_records(some + some[:100])
            if number in {0, 3, 6}:
                threads[number // 3].start()
        until(lambda: sum(map(len, parts)) >= total, lambda: (sum(map(len, parts)), lost))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    found = ids(parts)
    assert len(found) == total
    assert {*found.values()} == {1}


@pytest.mark.parametrize("what", ["flows", "packets"])
def test_a_reader_that_is_killed_has_counted_each_once(site: Site, tmp_path: Path, what: str) -> None:
    """Totals and offsets in one transaction, kill -9 at any moment, and duplicates of what was read before.

    Flows by the program of docs/consumers/python-library.md.
    """
    topic = site.topics.flows if what == "flows" else site.topics.packets
    program = page.read("python-library").files["exactly_once.py"] if what == "flows" else PACKETS
    reader = Killed(program, site.kafka, topic, tmp_path)
    rng = np.random.default_rng(5)
    rows = packets = octets = twice = 0
    sent: list[Any] = site.records(20_000) if what == "flows" else list(_ring(400))
    for number, some in enumerate(sliced(sent, len(sent) // 5)):
        again = sent[max(0, number * len(some) - len(some) // 3) : number * len(some)]
        if what == "flows":
            site.send_records(again + some)
            twice += len(again)
            rows, packets, octets = rows + len(some), packets + 3 * len(some), octets + 60 * len(some)
        else:
            site.send_batches(again + some)
            twice += sum(map(len, again))
            rows += sum(map(len, some))
            packets += sum(int(each.packets.sum()) for each in some)
            octets += sum(int(each.bytes.sum()) for each in some)
        reader.start()
        if number % 2:
            until(lambda: reader.sums()[0] >= rows, reader.sums)  # noqa: B023
        else:
            time.sleep(float(rng.uniform(0.5, 3.0)))
        reader.kill()
    reader.start()
    until(lambda: reader.sums()[0] >= rows, reader.sums)
    until(lambda: reader.sums()[3] >= twice, reader.sums)
    assert reader.sums() == (rows, packets, octets, twice)
    reader.kill()
    assert reader.kills == 6


def _ring(count: int) -> Iterator[PacketBatch]:
    """A node's batches, from the ring and coalesced."""
    position = number = 0
    for sequence in range(count):
        packets = [Packet(time_ns=NOW * 10**9 + sequence, bytes=60 + n, packets=1 + n % 3) for n in range(sequence % 7)]
        if sequence % 5 == 4 and packets:
            made = coalesced(packets, number=number, ring_end=position)
            number += len(packets)
        else:
            made = batch(packets, ring_start=position, sequence=sequence)
            made = dataclasses.replace(made, coalesced_start=number, coalesced_end=number)
            position = made.ring_end
        yield made


def test_packets_come_once_also_where_batches_overlap(site: Site) -> None:
    packets = [Packet(time_ns=NOW * 10**9 + n, bytes=100 + n, src_port=n % 5) for n in range(40)]
    cuts = [(0, 10), (10, 25), (5, 25), (0, 30), (30, 40), (20, 40)]
    site.send_batches(batch(packets[a:b], ring_start=a * STRIDE) for a, b in cuts)
    with Packets(site.kafka, topic=site.topics.packets) as reader:
        (part,) = reader
    assert part.bytes.tolist() == [each.bytes for each in packets]
    assert part.duplicates == sum(b - a for a, b in cuts) - 40
    table = part.table()
    assert table["src_port"].to_pylist() == [each.src_port for each in packets]
    assert table["time"].cast("int64").to_pylist() == [each.time_ns for each in packets]


@pytest.mark.parametrize("away", [False, True], ids=["while it is read", "while nobody reads"])
def test_a_topic_that_is_made_anew_is_read_from_its_beginning(site: Site, away: bool) -> None:
    site.send_records(site.records(400))
    reader = Flows(site.kafka, group="g", topic=site.topics.flows)
    try:
        collect(reader, 400)
        if away:
            reader.close()
        site.make_anew(site.topics.flows)
        site.send_records(site.records(3000, window=NOW + 10))  # longer than the old one
        if away:
            reader = Flows(site.kafka, group="g", topic=site.topics.flows)
        parts = collect(reader, 3000)
    finally:
        reader.close()
    assert {*ids(parts).values()} == {1}
    assert len(ids(parts)) == 3000


def test_what_retention_took_is_told(site: Site) -> None:
    one = Site(site.kafka, partitions=1)
    one.send_records(one.records(100))
    with Flows(one.kafka, group="g", topic=one.topics.flows) as reader:
        collect(reader, 100)
    one.send_records(one.records(50, revision=1))
    (answer,) = one.admin.delete_records([TopicPartition(one.topics.flows, 0, 130)]).values()
    answer.result(HANG_SECONDS)
    with Flows(one.kafka, group="g", topic=one.topics.flows) as reader:
        parts = collect(reader, 20)
    assert (sum(map(len, parts)), sum(part.missing for part in parts)) == (20, 30)


def test_marks_of_transactions_are_no_messages_and_a_range_ends_behind_them(site: Site) -> None:
    producer = Producer({"bootstrap.servers": site.kafka, "transactional.id": site.prefix, "log_level": 0})
    producer.init_transactions(HANG_SECONDS)
    for records, end in ((site.records(5), producer.commit_transaction), (site.records(9), producer.abort_transaction)):
        producer.begin_transaction()
        for _, value in records:
            producer.produce(site.topics.flows, value, partition=2)
        producer.flush(HANG_SECONDS)
        end(HANG_SECONDS)
    with Flows(site.kafka, topic=site.topics.flows) as reader:
        assert sum(map(len, reader)) == 5


def test_a_message_that_is_none_is_skipped_and_told(site: Site) -> None:
    good = [value for _, value in site.records(3)]
    poison = [b"", None, b"hello", b"\0\0\0\0\x63more", good[0][:40], good[0] + b"x", b"\0\0\0\0\x01" + good[0][5:]]
    site.send(site.topics.flows, [good[0], *poison, *good[1:]])
    with Flows(site.kafka, topic=site.topics.flows) as reader:
        (part,) = reader
    assert (len(part), [(each.partition, each.offset) for each in part.skipped]) == (3, [(0, n) for n in range(1, 8)])
    assert all(each.reason for each in part.skipped)
    site.send(site.topics.packets, poison)
    site.send_batches([batch([Packet(time_ns=NOW * 10**9)])])
    with Packets(site.kafka, topic=site.topics.packets) as reader:
        (other,) = reader
    assert (len(other), len(other.skipped)) == (1, len(poison))


@dataclasses.dataclass
class Large:
    """A topic of others, which take more than we do."""

    name: str
    partitions: int = 1
    config: dict[str, str] = dataclasses.field(default_factory=lambda: {"max.message.bytes": str(16 << 20)})


def test_a_message_of_twelve_megabytes_is_read_or_skipped_like_any_other(site: Site) -> None:
    topic = f"{site.prefix}large"
    kafka.create_missing(site.settings, [Large(topic)], client=site.admin)
    schema, (_, first) = newest("FlowRecord"), site.records(1)[0]
    large = first[:5] + encode_record({**decode_record(first[5:], schema), "node": "n" * (12 << 20)}, schema)
    site.send(topic, [large, b"\xff" * (12 << 20), *(value for _, value in site.records(4))])
    with Flows(site.kafka, topic=topic) as reader:
        parts = list(reader)
    assert sum(map(len, parts)) == 4, "the first has the record_id of one of the four"
    assert len([each for part in parts for each in part.skipped]) == 1
    assert max(len(name) for part in parts for name in part.table["node"].to_pylist()) == 12 << 20


def test_without_a_group_there_is_nothing_to_commit_to(site: Site) -> None:
    site.send_records(site.records(1))
    with Flows(site.kafka, topic=site.topics.flows) as reader:
        part: Part = next(reader)
        with pytest.raises(SettingsError, match="group="):
            part.commit()
