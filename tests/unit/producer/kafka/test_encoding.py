"""Batches to messages: the two encodings, a registry that is away, batches that are too large."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ServiceUnavailable
from producer.capture.batch import Source, Span, build
from producer.capture.testing import records
from producer.kafka.encoding import REGISTRY_RETRY_NS, Encoding, PatientEncoding, open_encoding, send_divided
from producer.kafka.outbox import MAX_MESSAGE_BYTES, Message
from schemas.avro.codec import Codec
from schemas.names import NameBatch
from schemas.packets import PacketBatch, PacketEvents
from schemas.topics import TopicNames

TOPICS = TopicNames.of("t.")


def events(count: int) -> PacketEvents:
    return build(
        Span(start=0, end=80 * count, records=records([{"src_port": port} for port in range(count)])),
        source=Source(node="n", ring_id=9, interfaces=((3, "eth0"),)),
        first_epoch=1,
        boundaries=[],
        offset_ns=0,
        sequence=0,
        clock_ns=0,
        counters=(),
    )


def large(_batch: PacketBatch) -> bytes:
    return bytes(MAX_MESSAGE_BYTES + 1)


def test_the_records_of_a_batch_come_before_it_and_a_heartbeat_has_none() -> None:
    encoding = Encoding(lambda _: b"batch", lambda each: [b"%d" % i for i in range(len(each.batch))], TOPICS)
    assert encoding.messages(events(2)) == [
        Message(topic="t.packet-events", value=b"0"),
        Message(topic="t.packet-events", value=b"1"),
        Message(topic="t.packets", value=b"batch"),
    ]
    assert encoding.messages(events(0)) == [Message(topic="t.packets", value=b"batch")]


def test_a_batch_is_too_large_as_long_as_it_can_be_divided() -> None:
    encoding = Encoding(large, None, TOPICS)
    assert encoding.messages(events(2)) is None
    assert encoding.messages(events(1)) is not None
    assert Encoding(lambda _: bytes(MAX_MESSAGE_BYTES), None, TOPICS).messages(events(2)) is not None


@pytest.mark.parametrize("form", ["batch", "record"])
def test_both_encodings_say_the_same_of_a_batch(form: str) -> None:
    encoding = open_encoding(form, None, TOPICS)
    try:
        messages = encoding.messages(events(3)) or []
    finally:
        encoding.close()
    assert [message.topic for message in messages] == ["t.packet-events"] * 3 * (form == "record") + ["t.packets"]
    assert len(Codec().decode_packet_batch(messages[-1].value)) == 3


class Registry:
    """An encoder that is told whether its registry answers."""

    def __init__(self) -> None:
        self.away, self.asked = True, 0

    def names(self, _batch: NameBatch) -> Message:
        raise NotImplementedError

    def messages(self, _events: PacketEvents) -> list[Message]:
        self.asked += 1
        if self.away:
            raise ServiceUnavailable("nobody answers")
        return []


def test_a_registry_that_is_away_is_asked_once_a_second() -> None:
    now, registry = 0, Registry()
    encoding = PatientEncoding(registry, lambda: now)
    for _ in range(5):
        with pytest.raises(ServiceUnavailable):
            encoding.messages(events(1))
    assert registry.asked == 1
    now += REGISTRY_RETRY_NS
    registry.away = False
    assert encoding.messages(events(1)) == []
    assert encoding.messages(events(1)) == []
    assert registry.asked == 3


@given(st.integers(0, 200), st.integers(1, 50), st.one_of(st.none(), st.integers(1, 300)), st.integers(0, 200))
def test_parts_follow_one_another_and_none_is_too_large(count: int, fits: int, most: int | None, room: int) -> None:
    parts: list[tuple[int, int]] = []

    def send(begin: int, end: int) -> bool:
        if end - begin > fits:
            return False
        parts.append((begin, end))
        return True

    sent = send_divided(count, send, most=most, has_room=lambda: len(parts) < room)
    begins, ends = [begin for begin, _ in parts], [end for _, end in parts]
    assert begins == [0, *ends][: len(parts)]
    assert sent == (ends[-1] if ends else 0)
    assert all(end > begin for begin, end in parts) or parts == [(0, 0)]
    assert sent == count or len(parts) == room
    assert len(parts) <= 1 + 2 * count // min(fits, most or count or 1)


def test_no_records_are_one_batch_and_what_send_raises_ends_it() -> None:
    calls: list[Any] = []

    def send(begin: int, end: int) -> bool:
        calls.append((begin, end))
        if begin:
            raise ServiceUnavailable("away")
        return end < 3

    assert send_divided(0, send) == 0
    assert calls == [(0, 0)]
    with pytest.raises(ServiceUnavailable):
        send_divided(4, send)
    assert calls == [(0, 0), (0, 4), (0, 2), (2, 4)]
