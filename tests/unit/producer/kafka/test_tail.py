"""What a producer learns from Kafka of the one before it."""

from typing import Any

import numpy as np
import pytest
from confluent_kafka import KafkaError

from common.errors import DecodeError
from producer.capture.batch import Source, Span, build
from producer.capture.testing import counters, memory_state, records
from producer.kafka.tail import SECONDS, Safe, Tail, TailReader
from producer.kafka.testing import MemoryTail, Told
from producer.kernel.run_state import RunState
from schemas.avro.names import NameEncoder
from schemas.avro.packet_encoder import BatchEncoder
from schemas.avro.registry import FixedRegistry
from schemas.names import NameBatch, no_rows

RING = 1_700_000_000_123_456_789


def message(number: int, *, end: int, ring_id: int = RING, node: str = "n", epoch: int | None = None) -> Told:
    """A batch of one event that ends at position `end`; `epoch`: closes it."""
    events = build(
        Span(start=end - 80, end=end, records=records([{}])),
        source=Source(node=node, ring_id=ring_id, interfaces=((3, "eth0"),)),
        first_epoch=1,
        boundaries=[],
        offset_ns=0,
        sequence=0,
        clock_ns=0,
        counters=() if epoch is None else (counters(epoch=epoch),),
        coalesced=7,
    )
    return Told(number, node.encode(), BatchEncoder(FixedRegistry()).encode(events.batch))


class Setup:
    def __init__(self, tail: MemoryTail, *, acknowledged: tuple[int, int] | None, tick: float = 0.0) -> None:
        self.tail, self.now, self.tick, self.slept = tail, 0.0, tick, 0.0
        self.state: RunState = memory_state()
        self.state.begin(ring_id=RING, opened_ns=0)
        self.state.open = 9
        if acknowledged:
            self.state.kafka_partition, self.state.kafka_offset = acknowledged
        self.safe = Safe(position=80)

    def monotonic(self) -> float:
        self.now += self.tick
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def open(self) -> Tail:
        return self.tail

    def read(self, **changed: Any) -> bool:
        fields: dict[str, Any] = {
            "open_tail": self.open,
            "registry": FixedRegistry(),
            "topic": "t",
            "node": "n",
            "written": 1 << 20,
        }
        reader = TailReader(**(fields | changed), monotonic=self.monotonic, sleep=self.sleep)
        return reader.read(self.safe, self.state)


def test_only_what_was_stored_behind_the_last_acknowledgement_is_read() -> None:
    tail = MemoryTail({2: [message(number, end=80 * number) for number in range(1, 6)]}, ends={2: 6})
    setup = Setup(tail, acknowledged=(2, 3))
    assert setup.read()
    assert setup.safe == Safe(position=400, coalesced=7, epoch=0)
    assert setup.slept > 0  # what was on its way may have come
    assert tail.closed


def test_nothing_behind_it_changes_nothing() -> None:
    setup = Setup(MemoryTail({2: [message(3, end=800)]}, ends={2: 4}), acknowledged=(2, 3))
    assert setup.read()
    assert setup.safe == Safe(position=80)


def test_without_an_acknowledgement_all_partitions_are_read_from_when_the_ring_was_made() -> None:
    tail = MemoryTail(
        {0: [message(8, end=160)], 1: [], 2: [message(5, end=240, epoch=4)]},
        ends={0: 9, 1: 0, 2: 6},
        since={0: 8, 1: -1, 2: 5},
    )
    setup = Setup(tail, acknowledged=None)
    assert setup.read()
    assert setup.safe == Safe(position=240, coalesced=7, epoch=4)
    assert tail.asked_since_ms == RING // 1000 - 10_000  # the broker's clock may be behind ours


def test_other_nodes_other_rings_and_what_is_no_batch_of_ours_say_nothing() -> None:
    tail = MemoryTail(
        {
            0: [
                message(1, end=8000, node="m"),
                message(2, end=8000, ring_id=RING + 1),
                Told(3, b"n", None),
                Told(4, b"n", b"\1not Avro"),
                Told(5, b"n", message(5, end=8000).octets, problem=KafkaError._PARTITION_EOF),
                message(6, end=160),
            ]
        },
        ends={0: 7},
    )
    setup = Setup(tail, acknowledged=(0, 0))
    assert not setup.read()  # what somebody else wrote under our name may hide something of ours
    assert setup.safe.position == 160


@pytest.mark.parametrize(
    "octets",
    [
        b"\0\0\0\0\5\2\4",  # the beginning of a batch
        b"\0\0\0\0\5" + b"\xff" * 40,  # numbers without end
        b"\0\0\0\0\5\x04\xff\xff",  # a name that is not UTF-8
        b"\0\0\0\0\3",  # another of our schemas
        b"\0\0\0\0\x63abc",  # none of ours
        bytes(200_000),
        message(1, end=(1 << 20) + 80).octets,  # more than the ring has had
        message(1, end=160, epoch=99).octets,  # an epoch that is not open yet
    ],
)
def test_what_others_wrote_under_our_name_is_passed_over(octets: bytes, caplog: pytest.LogCaptureFixture) -> None:
    tail = MemoryTail({0: [Told(1, b"n", octets), message(2, end=400), Told(3, b"n", octets)]}, ends={0: 4})
    setup = Setup(tail, acknowledged=(0, 0))
    setup.read()
    assert setup.safe == Safe(position=400, coalesced=7)
    assert "somebody else's message" in caplog.text


def test_control_records_at_the_end_are_not_waited_for() -> None:
    setup = Setup(MemoryTail({0: [message(1, end=160)]}, ends={0: 4}), acknowledged=(0, 0), tick=0.001)
    assert setup.read()
    assert setup.safe.position == 160
    assert setup.now < 1


def test_what_retention_has_removed_is_passed_over() -> None:
    setup = Setup(MemoryTail({0: [message(9, end=160)]}, ends={0: 10}), acknowledged=(0, 2))
    assert setup.read()
    assert setup.safe.position == 160


def test_kafka_that_does_not_answer_is_no_error_but_is_told(caplog: pytest.LogCaptureFixture) -> None:
    tail = MemoryTail({0: []}, ends={0: 9}, fails=True)
    setup = Setup(tail, acknowledged=(0, 0))
    assert not setup.read()
    assert setup.safe == Safe(position=80)
    assert "some may be sent twice" in caplog.text
    assert tail.closed


def test_who_may_not_read_is_told_so_and_waits_for_nothing(caplog: pytest.LogCaptureFixture) -> None:
    refused = Told(1, b"", None, problem=KafkaError.TOPIC_AUTHORIZATION_FAILED)
    setup = Setup(MemoryTail({0: [refused]}, ends={0: 9}), acknowledged=(0, 0))
    assert not setup.read()
    assert "docs/operations.md lists what each part needs" in str([vars(record) for record in caplog.records])
    assert "takes long" not in caplog.text


def test_kafka_that_takes_long_is_given_up_with_what_was_heard(caplog: pytest.LogCaptureFixture) -> None:
    many = [message(number, end=80 * number) for number in range(1, 200)]
    setup = Setup(MemoryTail({0: many}, ends={0: 200}), acknowledged=(0, 0), tick=SECONDS / 3)
    assert not setup.read()
    assert 80 < setup.safe.position < 80 * 199
    assert "takes long" in caplog.text


def test_a_schema_that_the_registry_does_not_know_is_no_error() -> None:
    class Empty(FixedRegistry):
        def schema(self, schema_id: int) -> str:
            raise DecodeError(f"schema id {schema_id} is not known")

    setup = Setup(MemoryTail({0: [message(1, end=160)]}, ends={0: 2}), acknowledged=(0, 0))
    assert not setup.read(registry=Empty())
    assert setup.safe == Safe(position=80)


def names(number: int, *, end: int, ring_id: int = RING, clock_ns: int = 0) -> Told:
    """A batch of names without a row, up to a position of the ring of copies."""
    rows = {name: np.zeros(0, values.dtype) for name, values in no_rows().items()}
    nothing = np.zeros((0, 16), np.uint8)
    batch = NameBatch(
        node="n", ring_id=ring_id, ring_start=0, ring_end=end, sequence=0, clock_ns=clock_ns, base_ns=0, copies=0,
        open_copies=0, unused_copies=0, epoch=np.zeros(0, np.int64), epoch_copies=np.zeros(0, np.int64),
        interface_names=(), names=(), clients=nothing, servers=nothing, answer_sets=(), ja4s=(), alpns=(), **rows,
    )  # fmt: skip
    return Told(number, b"n", NameEncoder(FixedRegistry()).encode(batch))


def with_names(*told: Told, acknowledged: tuple[int, int] | None = (5, 3)) -> Setup:
    tail = MemoryTail({2: [], 5: list(told)}, ends={2: 4, 5: 9}, since={2: -1, 5: 0})
    setup = Setup(tail, acknowledged=(2, 3))
    if acknowledged:
        setup.state.names_partition, setup.state.names_offset = acknowledged
    return setup


def test_where_payload_is_inspected_the_names_topic_is_read_too() -> None:
    setup = with_names(names(3, end=800, clock_ns=5000), names(4, end=1600, clock_ns=7000), names(8, end=1200))
    assert setup.read(names_topic="names", names_written=1600)
    assert (setup.safe.names, setup.safe.names_ns) == (1600, 7000)
    assert setup.safe.position == 80


def test_names_of_another_ring_or_beyond_ours_are_not_ours() -> None:
    assert with_names(names(4, end=800, ring_id=7)).read(names_topic="names", names_written=1600)
    setup = with_names(names(4, end=1700), names(5, end=800))
    assert not setup.read(names_topic="names", names_written=1600)
    assert setup.safe.names == 800


def test_without_one_acknowledgement_names_are_looked_for_since_the_run_began() -> None:
    setup = with_names(names(0, end=400), names(8, end=800), acknowledged=None)
    assert setup.read(names_topic="names", names_written=1600)
    assert setup.safe.names == 800
