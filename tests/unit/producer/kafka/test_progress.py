"""What the publisher hands out of how far everything has come."""

from confluent_kafka import KafkaError

from producer.kafka.progress import Progress
from tests.unit.producer.kafka.test_publisher import Setup, batch


def test_a_batch_that_waits_grows_old_until_it_is_acknowledged() -> None:
    setup = Setup()
    assert setup.publisher.poll(0).waiting_ns(5) == 0
    setup.now = 100
    setup.send(10)
    setup.now = 200
    progress = setup.publisher.poll(0)
    assert (progress.unacknowledged, progress.in_flight, progress.waiting_ns(350)) == (1, 1, 250)
    setup.broker.answer()
    setup.now = 400
    progress = setup.publisher.poll(0)
    assert (progress.unacknowledged, progress.in_flight, progress.waiting_ns(450)) == (0, 0, 0)
    assert progress.acknowledged_ns == 200


def test_it_says_where_kafka_has_stored_the_last_batch_not_the_records_before_it() -> None:
    setup = Setup()
    setup.publisher.send(batch(10, b"record", b"batch"))
    setup.broker.answer()
    assert setup.publisher.poll(0).stored is None
    setup.broker.answer()
    assert setup.publisher.poll(0).stored == (0, 1)


def test_what_was_handed_out_does_not_change() -> None:
    setup = Setup()
    setup.send(10)
    before = setup.publisher.poll(0)
    setup.broker.answer()
    assert before.released == 0
    assert setup.publisher.progress == before
    assert setup.publisher.poll(0).released == 10


def test_another_ring_begins_where_it_is_said_to() -> None:
    setup = Setup()
    setup.publisher.send(batch(10, b"x", epoch=4))
    setup.broker.answer()
    assert setup.publisher.poll(0).epoch == 4
    setup.publisher.begin_at(7_000)
    assert (setup.publisher.progress.released, setup.publisher.progress.epoch) == (7_000, 0)


def test_it_is_calm_only_when_kafka_takes_what_it_is_given() -> None:
    assert Progress(released=0).calm
    assert not Progress(released=0, spooling=True).calm
    assert not Progress(released=0, held_back=True).calm
    assert not Progress(released=0, error="no broker answers").calm
    setup = Setup(room=1)
    setup.send(1, 2)
    assert not setup.publisher.poll(0).calm  # the client is full
    setup.broker.answer(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
    assert not setup.publisher.poll(0).calm
