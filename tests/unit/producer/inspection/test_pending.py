"""Names that are read become messages of a size that Kafka takes, and nothing is lost or counted twice between them."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ServiceUnavailable
from producer.inspection.pending import MOST_ROWS, Origin, Pending
from producer.inspection.testing import MemoryCopies, MemoryReader
from producer.kafka.outbox import Message
from schemas.avro.codec import Codec
from schemas.names import NameBatch

CODEC = Codec()
ORIGIN = Origin(node="n", ring_id=9, interfaces={3: "eth0", 7: "eth1"}, offset_ns=10**18, clock_ns=10**18 + 5)


def encode(batch: NameBatch) -> Message:
    return Message(topic="names", value=CODEC.encode_name_batch(batch))


def pending(*payloads: str, slot: int = 3, epochs: int = 1) -> tuple[Pending, MemoryReader]:
    ring, reader, found = MemoryCopies(at_a_time=1 + len(payloads)), MemoryReader(), Pending(start=0, end=0)
    for number, payload in enumerate(payloads):
        ring.put(payload.encode(), ktime_ns=number, slot=slot, epoch=1 + number % epochs)
    copies = ring.read(0, ring.end)
    found.add(copies, reader.read(copies.heads, copies.octets, copies.offsets))
    return found, reader


def taken(found: Pending, reader: MemoryReader, most_bytes: int = 1_000_000) -> list[NameBatch]:
    messages = found.take(ORIGIN, encode, open_now=reader.open, unused_now=reader.unused, most_bytes=most_bytes)
    return [CODEC.decode_name_batch(message.value) for message in messages]


def test_a_message_has_what_its_copies_had() -> None:
    found, reader = pending("one.example", "", "?two.example", "one.example", epochs=2)
    (batch,) = taken(found, reader)
    assert (batch.node, batch.ring_id, batch.sequence, batch.clock_ns) == ("n", 9, 0, 10**18)
    assert (batch.names, batch.name.tolist()) == (("one.example",), [0, 0])
    assert (batch.base_ns, batch.time_offset_ns.tolist()) == (10**18, [0, 3])
    assert (batch.copies, batch.unused_copies, batch.open_copies) == (4, 1, 1)
    assert (batch.epoch.tolist(), batch.epoch_copies.tolist()) == ([1, 2], [2, 2])
    assert [batch.interface_names[place] for place in batch.interface.tolist()] == ["eth0", "eth0"]
    assert len(found) == 0
    assert found.start == found.end == batch.ring_end


def test_an_interface_that_has_gone_meanwhile_has_no_name() -> None:
    (batch,) = taken(*pending("one.example", slot=511))
    assert [batch.interface_names[place] for place in batch.interface.tolist()] == [""]


def test_while_the_registry_is_away_all_is_kept() -> None:
    found, reader = pending("one.example")

    def away(_batch: NameBatch) -> Message:
        raise ServiceUnavailable("away")

    with pytest.raises(ServiceUnavailable):
        found.take(ORIGIN, away, open_now=0, unused_now=0, most_bytes=1000)
    (batch,) = taken(found, reader)
    assert (batch.names, batch.ring_start, batch.sequence) == (("one.example",), 0, 0)


@given(
    st.lists(st.sampled_from(["", "?wait.example", "a.example", "b" * 200, "c" * 60]), max_size=60),
    st.integers(300, 3000),
)
def test_messages_are_as_small_as_they_must_be_and_follow_one_another(payloads: list[str], most_bytes: int) -> None:
    found, reader = pending(*payloads, epochs=3)
    batches = taken(found, reader, most_bytes)
    assert [batch.ring_start for batch in batches] == [0, *(batch.ring_end for batch in batches[:-1])]
    assert batches[-1].ring_end == found.end
    assert [batch.sequence for batch in batches] == list(range(len(batches)))
    assert all(len(CODEC.encode_name_batch(batch)) <= most_bytes or len(batch) <= 1 for batch in batches)
    rows = Counter(batch.names[place] for batch in batches for place in batch.name.tolist())
    assert rows == Counter(payload for payload in payloads if payload and not payload.startswith("?"))
    before = 0
    for batch in batches:
        assert before + batch.copies == int(batch.row_copies.sum()) + batch.unused_copies + batch.open_copies
        assert (batch.ring_offset >= 0).all()
        assert (batch.ring_start + batch.ring_offset <= batch.ring_end).all()
        before = batch.open_copies
    assert before == reader.open
    epochs = Counter[int]()
    for batch in batches:
        epochs.update(dict(zip(batch.epoch.tolist(), batch.epoch_copies.tolist(), strict=True)))
    assert epochs == Counter(1 + number % 3 for number in range(len(payloads)))


def test_a_message_has_no_more_rows_than_streams_wants_at_a_time() -> None:
    found, reader = pending(*["a"] * 100)
    further = found.parts[0].rows.copy()
    further["copies"] = 0
    for _ in range(2 * MOST_ROWS // 100):
        found.parts.append(found.parts[0]._replace(rows=further))
        found.places.append(found.places[0])
    rows = sum(map(len, found.places))
    batches = taken(found, reader, 1 << 30)
    assert rows > 2 * MOST_ROWS
    assert sum(map(len, batches)) == rows
    assert max(map(len, batches)) <= MOST_ROWS


@pytest.mark.parametrize("most_bytes", [400, 1 << 30], ids=["octets", "rows"])
def test_rows_of_one_place_are_divided_too(most_bytes: int) -> None:
    """Thousands of questions that nobody answered, given up at one moment; or all in one message."""
    waiting = [f"?{number}.example" for number in range(20 if most_bytes == 400 else 2 * MOST_ROWS + 1)]
    found, reader = pending(*waiting)
    taken(found, reader)
    found.expired(reader.expire(10**12))
    batches = taken(found, reader, most_bytes)
    assert Counter(name for batch in batches for name in batch.names) == Counter(name[1:] for name in waiting)
    assert len(batches) > 2
    assert [batch.open_copies for batch in batches][-1] == 0
    before = len(waiting)
    for batch in batches:
        assert before == int(batch.row_copies.sum()) + batch.open_copies
        before = batch.open_copies
        assert (batch.ring_start + batch.ring_offset <= batch.ring_end).all()
    assert all(one.ring_end == other.ring_start for one, other in pairwise(batches))


def test_what_is_waited_for_in_vain_lies_at_the_end() -> None:
    found, reader = pending("?one.example", "two.example")
    found.expired(reader.expire(10**12))
    (batch,) = taken(found, reader)
    assert [batch.names[place] for place in batch.name.tolist()] == ["two.example", "one.example"]
    assert batch.ring_offset.tolist()[1] == batch.ring_end - batch.ring_start - 1
    found.expired(MemoryReader().expire(0))
    assert len(found) == 0
    assert all(one <= other for one, other in pairwise(batch.ring_offset.tolist()))
