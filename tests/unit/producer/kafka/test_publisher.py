"""Acknowledgements: what may be released, what is sent again, in which order."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given
from hypothesis import strategies as st

from common.kafka import NOW, TIMELESS
from producer.kafka.client import explain
from producer.kafka.outbox import MAX_UNACKED_BYTES, Batch, Entry, Message, Outbox
from producer.kafka.publisher import RETRY_NS, Publisher
from producer.kafka.testing import MemoryTransport

REFUSED = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)


def batch(ring_end: int, *values: bytes, **changed: Any) -> Batch:
    """A message a value."""
    messages = tuple(Message(topic="tu"[i], value=value) for i, value in enumerate(values))
    fields: dict[str, Any] = {"ring_id": 9, "ring_end": ring_end, "coalesced_end": 0, "epoch": 0, "packets": 1}
    return Batch(**(fields | changed), messages=messages)


class Setup:
    def __init__(self, **transport: Any) -> None:
        self.now = 0
        self.transports: list[MemoryTransport] = []
        self.done: list[int] = []

        def open_transport(on_error: Callable[[Any], None]) -> MemoryTransport:
            self.on_error = on_error
            self.transports.append(MemoryTransport(answers_itself=False, **transport))
            return self.transports[-1]

        self.publisher = Publisher(
            node="n",
            position=0,
            open_transport=open_transport,
            monotonic=lambda: self.now,
            on_done=lambda entry, _: self.done.append(entry.batch.ring_end),
            names_topic="t",
        )

    @property
    def broker(self) -> MemoryTransport:
        return self.transports[-1]

    def send(self, *numbers: int) -> None:
        for number in numbers:
            self.publisher.send(batch(number, b"%d" % number))

    @property
    def released(self) -> int:
        return self.publisher.poll(0).released


def test_names_are_safe_with_the_packets_behind_them_and_only_then_it_is_known_where_they_are() -> None:
    """Who is killed in between must find them at the end of their topic."""
    setup = Setup()
    setup.publisher.send(batch(10, b"names", b"packets", names_end=700, names_ns=5))
    setup.publisher.send(batch(20, b"more", b"packets", names_end=800, names_ns=6))
    setup.broker.answer()
    progress = setup.publisher.poll(0)
    assert (progress.names, progress.names_ns, progress.names_stored) == (0, 0, None)
    while setup.broker.waiting:
        setup.broker.answer()
        progress = setup.publisher.poll(0)
    assert (progress.names, progress.names_ns, progress.names_stored) == (800, 6, (0, 2))
    assert setup.broker.topics == ["t", "u", "t", "u"]


def test_the_ring_is_released_up_to_the_first_batch_that_is_not_acknowledged() -> None:
    setup = Setup()
    setup.send(10, 20, 30)
    setup.broker.answer(place=1)
    assert (setup.released, setup.done) == (0, [])
    setup.broker.answer()
    assert (setup.released, setup.done) == (20, [10, 20])
    setup.broker.answer()
    assert setup.released == 30


def test_a_batch_is_done_when_all_its_messages_are_and_the_last_is_handed_over_when_the_others_are_stored() -> None:
    """Who finds it in the topic after a kill needs not look for the others."""
    setup = Setup()
    setup.publisher.send(batch(10, b"a", b"b"))
    setup.publisher.poll(0)
    assert [value for _, value, _ in setup.broker.waiting] == [b"a"]
    setup.broker.answer()
    assert setup.released == 0
    setup.publisher.poll(0)
    setup.broker.answer()
    assert (setup.released, setup.broker.stored) == (10, [b"a", b"b"])


def test_refused_messages_of_a_batch_keep_their_order() -> None:
    setup = Setup()
    events = tuple(Message(topic="u", value=b"%d" % i) for i in range(3))
    setup.publisher.send(replace(batch(10), messages=(*events, Message(topic="t", value=b"batch"))))
    for _ in range(3):
        setup.broker.answer(REFUSED)
    setup.now += RETRY_NS
    setup.publisher.poll(0)
    assert [value for _, value, _ in setup.broker.waiting] == [b"0", b"1", b"2"]


def test_a_broker_that_finds_our_clock_wrong_is_sent_no_times() -> None:
    setup = Setup()
    setup.send(1, 2)
    for _ in range(2):
        setup.broker.answer(KafkaError(KafkaError.INVALID_TIMESTAMP))
    assert "Set the clock" in (setup.publisher.poll(0).error or "")
    setup.now += RETRY_NS
    setup.publisher.poll(0)
    setup.send(3)
    for _ in range(3):
        setup.broker.answer()
    assert (setup.released, setup.broker.stored) == (3, [b"1", b"2", b"3"])
    assert setup.broker.stamps == [NOW, NOW, TIMELESS, TIMELESS, TIMELESS]


def test_a_refused_batch_is_sent_again_before_what_came_after_it() -> None:
    setup = Setup()
    setup.send(1, 2)
    setup.broker.answer(REFUSED)
    setup.send(3)  # while something is refused nothing new is handed over
    assert [value for _, value, _ in setup.broker.waiting] == [b"2"]
    assert not setup.publisher.has_room()
    setup.broker.answer(REFUSED)
    setup.publisher.poll(0)
    assert not setup.broker.waiting  # not at once
    setup.now += RETRY_NS
    setup.publisher.poll(0)
    assert [value for _, value, _ in setup.broker.waiting] == [b"1", b"2", b"3"]
    for _ in range(3):
        setup.broker.answer()
    assert (setup.released, setup.broker.stored) == (3, [b"1", b"2", b"3"])
    assert setup.publisher.has_room()


def test_a_full_queue_is_waited_for_and_the_order_kept() -> None:
    setup = Setup(room=2)
    setup.send(1, 2, 3)
    assert not setup.publisher.has_room()
    setup.broker.answer()
    setup.publisher.poll(0)
    assert [value for _, value, _ in setup.broker.waiting] == [b"2", b"3"]
    assert setup.publisher.has_room()


def test_a_ring_stays_in_its_partition_however_many_are_added() -> None:
    setup = Setup()
    setup.broker.by_key = 2
    setup.send(10)
    setup.broker.answer()
    setup.broker.by_key = 6  # there are more partitions now
    setup.send(20)
    setup.broker.answer()
    assert setup.broker.places == [2, 2]
    setup.publisher.begin_at(20, 2)  # of a ring that an earlier producer sent to 2
    setup.send(30)
    assert setup.broker.places == [2, 2, 2]
    setup.publisher.begin_at(0, -1)  # a new one
    setup.send(10)
    assert setup.broker.places == [2, 2, 2, 6]


def test_a_ring_whose_partition_is_gone_goes_where_its_name_belongs() -> None:
    setup = Setup(partitions=1)
    setup.publisher.begin_at(0, 2)
    setup.send(10)
    assert setup.broker.places == [0]
    setup.broker.answer()
    assert setup.released == 10
    assert len(setup.transports) == 1  # the client is well


def test_unacknowledged_batches_are_bounded() -> None:
    setup = Setup()
    half = bytes(MAX_UNACKED_BYTES // 2)
    for end in (1, 2):
        assert setup.publisher.has_room()
        setup.publisher.send(batch(end, half))
    assert not setup.publisher.has_room()
    setup.broker.answer()
    assert setup.publisher.has_room()


class Fatal:
    """A fatal KafkaError, as librdkafka makes it."""

    def code(self) -> int:
        return KafkaError._FATAL

    def fatal(self) -> bool:
        return True

    def name(self) -> str:
        return "_FATAL"

    def str(self) -> str:
        return "out of order"


def test_after_a_fatal_error_a_new_client_sends_what_was_not_acknowledged() -> None:
    setup = Setup()
    setup.send(1, 2, 3)
    setup.broker.answer()
    setup.on_error(Fatal())
    assert setup.broker.purged
    setup.now += RETRY_NS
    setup.publisher.poll(0)
    assert len(setup.transports) == 2
    assert [value for _, value, _ in setup.broker.waiting] == [b"2", b"3"]
    for _ in range(2):
        setup.broker.answer()
    assert (setup.released, setup.publisher.progress.error) == (3, None)


def test_a_fatal_error_that_a_poll_raises_is_one_like_others() -> None:
    """Of a user who may write nowhere: confluent-kafka raises fatal errors, and calls nobody."""
    setup = Setup()
    setup.send(1)
    refused = KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED, "no producer id", True)
    setup.broker.raises = KafkaException(refused)
    assert "docs/operations.md lists what each part needs" in str(setup.publisher.poll(0).error)
    assert setup.broker.purged
    setup.now += RETRY_NS
    setup.publisher.poll(0)
    assert len(setup.transports) == 2


def test_the_error_is_told_until_something_is_acknowledged() -> None:
    setup = Setup()
    setup.send(1)
    setup.on_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    assert "kafka.bootstrap_servers" in str(setup.publisher.poll(0).error)
    setup.broker.answer()
    assert setup.publisher.poll(0).error is None


def test_a_broker_that_is_away_is_a_line_a_minute_and_one_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ayaflow.producer")
    setup = Setup()
    setup.send(1)
    for _ in range(120):
        setup.on_error(KafkaError(KafkaError._TRANSPORT))
        setup.now += 1_000_000_000
    setup.broker.answer()
    again = "kafka does not take batches; trying again"
    assert [record.getMessage() for record in caplog.records] == [again, again, "works again"]


@pytest.mark.parametrize(
    ("code", "way_out"),
    [
        (KafkaError._TRANSPORT, "kafka.bootstrap_servers"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "kafka.topic_prefix"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "docs/operations.md lists what each part needs"),
        (KafkaError._AUTHENTICATION, "Correct what kafka.properties say of sasl"),
        (KafkaError._SSL, "Correct what kafka.properties say of ssl"),
        (KafkaError.MSG_SIZE_TOO_LARGE, "producer.batch_packets"),
    ],
)
def test_an_error_says_what_to_do(code: int, way_out: str) -> None:
    assert way_out in explain(KafkaError(code))


@given(st.lists(st.sampled_from(["send", "acknowledge", "acknowledge last", "refuse", "retry"]), max_size=60))
def test_whatever_happens_released_is_the_acknowledged_prefix_and_nothing_is_forgotten(steps: list[str]) -> None:
    box, sent, flying, acknowledged = Outbox(0), 0, list[tuple[Entry, Message]](), set[int]()
    for step in [*steps, *(["acknowledge", "retry"] * 200)]:
        if step == "send":
            sent += 1
            box.add(Entry(batch=batch(sent, b"%d" % sent), sent_ns=0))
        elif step == "retry":
            if not box.in_flight:
                box.retry()
        elif flying:
            entry, message = flying.pop(-1 if step == "acknowledge last" else 0)
            if step == "refuse":
                box.refuse(entry, message)
            else:
                acknowledged.add(entry.batch.ring_end)
                box.acknowledged(entry)
        while item := box.next():
            box.handed_over()
            flying.append(item)
        prefix = 0
        while prefix + 1 in acknowledged:
            prefix += 1
        assert box.released == prefix
        assert len(box.entries) == sent - prefix
        assert box.in_flight == len(flying)
    assert box.released == sent
    assert box.bytes == 0
