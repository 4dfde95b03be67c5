"""How far a group is behind, asked of a real broker."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import IO

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from common import kafka
from common.backlog import Backlog, PartitionBacklog, assigned, first_offset
from common.errors import ServiceUnavailable
from common.settings import KafkaSettings
from tests.fix_local import REPOSITORY, free_port, running_kafka, temporary_directory
from tests.waiting import HANG_SECONDS, until

pytestmark = pytest.mark.kafka
HOUR_AGO_MS = int(time.time() - 3600) * 1000  # what is older than retention.ms is soon removed


class Group:
    """A topic of two partitions and a group that commits in it."""

    def __init__(self, broker: str) -> None:
        self.settings = KafkaSettings(bootstrap_servers=broker)
        self.name = f"backlog-{time.time_ns()}"
        self.admin = kafka.admin(self.settings)
        self.make(2)

    def make(self, partitions: int) -> None:
        made = self.admin.create_topics([NewTopic(self.name, num_partitions=partitions, replication_factor=1)])
        made[self.name].result(HANG_SECONDS)

    def send(self, partition: int, stamps_ms: list[int]) -> None:
        producer = Producer({"bootstrap.servers": self.settings.bootstrap_servers})
        for stamp in stamps_ms:
            producer.produce(self.name, b"x", partition=partition, timestamp=stamp)
        assert producer.flush(HANG_SECONDS) == 0

    def commit(self, partition: int, offset: int) -> None:
        consumer = Consumer({"bootstrap.servers": self.settings.bootstrap_servers, "group.id": self.name})
        consumer.commit(offsets=[TopicPartition(self.name, partition, offset)], asynchronous=False)
        consumer.close()

    @contextlib.contextmanager
    def backlog(self) -> Iterator[Backlog]:
        with Backlog(self.settings, topic=self.name, group=self.name) as backlog:
            until(lambda: self.known(backlog))
            yield backlog

    def known(self, backlog: Backlog) -> bool:
        """Whether the broker knows the group already: a new broker takes a moment to make the topic of offsets."""
        try:
            return bool(backlog.look())
        except ServiceUnavailable:
            return False


@pytest.fixture
def group(kafka_broker: str) -> Iterator[Group]:
    made = Group(kafka_broker)
    yield made
    made.admin.delete_topics([made.name])[made.name].result(HANG_SECONDS)


def test_all_partitions_are_told_with_the_time_of_the_first_message_that_is_not_acknowledged(group: Group) -> None:
    now = int(time.time())
    group.send(1, [(now - 60) * 1000, (now - 50) * 1000, (now - 40) * 1000])
    with group.backlog() as backlog:
        unread = PartitionBacklog(
            partition=1, begin=0, committed=-1, first=0, end=3, oldest_unix_s=now - 60, read=False
        )
        assert backlog.look() == (
            PartitionBacklog(partition=0, begin=0, committed=-1, first=0, end=0, oldest_unix_s=None, read=False),
            unread,
        )
        assert unread.messages == 3
        stored = backlog.look({1: 1})[1]
        assert (stored.first, stored.messages, stored.oldest_unix_s) == (1, 2, now - 50)
        group.commit(1, 2)
        assert backlog.look()[1] == PartitionBacklog(
            partition=1, begin=0, committed=2, first=2, end=3, oldest_unix_s=now - 40, read=False
        )
        group.commit(1, 3)
        done = backlog.look()[1]
        assert (done.oldest_unix_s, done.messages) == (None, 0)


def test_partitions_that_were_just_added_are_there(group: Group) -> None:
    group.send(0, [HOUR_AGO_MS])
    with group.backlog() as backlog:
        assert [each.messages for each in backlog.look()] == [1, 0]
        group.admin.create_partitions([NewPartitions(group.name, 4)])[group.name].result(HANG_SECONDS)
        until(lambda: len(backlog.look()) == 4, seconds=10)
        before = time.time()
        backlog.look()
        group.send(3, [HOUR_AGO_MS])
        [*_, last] = backlog.look()
        assert (last.partition, last.messages) == (3, 1)
        assert last.oldest_unix_s is not None
        assert before <= last.oldest_unix_s <= time.time()  # it was not there before, whatever its stamp says


def test_a_topic_that_is_made_anew_with_fewer_partitions_is_told_as_it_is(group: Group) -> None:
    group.send(0, [HOUR_AGO_MS] * 5)
    group.commit(0, 5)
    with group.backlog() as backlog:
        assert len(backlog.look()) == 2
        group.admin.delete_topics([group.name])[group.name].result(HANG_SECONDS)
        with pytest.raises(ServiceUnavailable, match=f"how far {group.name} is read: .*Unknown topic"):
            until(lambda: not backlog.look(), seconds=10)
        group.make(1)
        group.send(0, [HOUR_AGO_MS])
        until(lambda: [each.messages for each in backlog.look()] == [1], seconds=10)


def test_a_time_in_the_future_or_none_is_that_of_the_first_look(group: Group) -> None:
    soon = int(time.time() + 1800) * 1000  # brokers refuse more than an hour
    group.send(0, [soon])
    before = time.time()
    with group.backlog() as backlog:
        [first, _] = backlog.look()
        assert first.oldest_unix_s is not None
        assert before <= first.oldest_unix_s <= time.time()
        assert backlog.look()[0] == first


def test_whether_a_member_of_the_group_has_a_partition_is_told(group: Group) -> None:
    member = Consumer({"bootstrap.servers": group.settings.bootstrap_servers, "group.id": group.name})
    with group.backlog() as backlog:
        assert [each.read for each in backlog.look()] == [False, False]
        member.subscribe([group.name])
        until(lambda: member.poll(0.1) is not None or all(each.read for each in backlog.look()))
        member.close()
        assert [each.read for each in backlog.look()] == [False, False]


def test_what_was_committed_of_a_topic_that_had_more_messages_is_not_believed() -> None:
    assert [first_offset(0, 500, 3), first_offset(2, 3, 3), first_offset(2, -1, 3)] == [0, 3, 2]


def test_marks_of_a_transaction_are_no_messages(kafka_broker: str, group: Group) -> None:
    producer = Producer({"bootstrap.servers": kafka_broker, "transactional.id": group.name})
    producer.init_transactions(HANG_SECONDS)
    producer.begin_transaction()
    producer.produce(group.name, b"x", partition=0)
    producer.commit_transaction(HANG_SECONDS)
    with group.backlog() as backlog:
        assert backlog.look()[0].messages == 2
        group.commit(0, 1)
        [first, _] = backlog.look()
        assert (first.end, first.messages) == (2, 0)


def test_a_broker_that_does_not_answer_is_a_sentence_in_time() -> None:
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    begun = time.monotonic()
    with (
        Backlog(settings, topic="t", group="g", timeout_seconds=1) as backlog,
        pytest.raises(ServiceUnavailable, match="Kafka does not tell how far t is read"),
    ):
        backlog.look()
    assert time.monotonic() - begun < 30


LOOKS = """
import sys
from common.backlog import Backlog
from common.errors import ServiceUnavailable
from common.settings import KafkaSettings
with Backlog(KafkaSettings(bootstrap_servers=sys.argv[1]), topic="ayaflow.packets", group="g", timeout_seconds=1) as b:
    while True:
        try:
            print(len(b.look()), flush=True)
        except ServiceUnavailable as error:
            print(error, flush=True)
"""


@contextlib.contextmanager
def looking(bootstrap: str) -> Iterator[IO[str]]:
    """Looks without a pause, in a process of its own: questions that were under way ended it."""
    command = [sys.executable, "-c", LOOKS, bootstrap]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout
        process.terminate()


def test_a_broker_that_is_killed_and_comes_back_is_asked_again() -> None:
    with temporary_directory() as directory, contextlib.ExitStack() as stack:
        bootstrap, broker = stack.enter_context(running_kafka(directory))
        member = Consumer({"bootstrap.servers": bootstrap, "group.id": "g", "log_level": 0})
        stack.callback(member.close)
        member.subscribe(["ayaflow.packets"])
        until(lambda: member.poll(0.1) or member.assignment())
        said = stack.enter_context(looking(bootstrap))
        for _ in range(3):
            until(lambda: said.readline() == "4\n")
            broker.kill()
            broker.wait()
            until(lambda: "Kafka does not tell" in said.readline())
            _, broker = stack.enter_context(running_kafka(directory, bootstrap))
        until(lambda: said.readline() == "4\n")


def test_an_assignment_is_read_as_far_as_it_goes() -> None:
    octets = bytes.fromhex("0000 00000001 0001 74 00000002 00000001 00000005 ffffffff")
    assert list(assigned(octets)) == [("t", (1, 5))]
    assert [list(assigned(octets[:length])) for length in range(21)] == [[]] * 21
    assert list(assigned(b"\xff" * 40)) == []
