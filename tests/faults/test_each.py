"""Each fault alone, under steady traffic. Long form.

One installation after the other is used for as long as nothing fails in it; totals add up.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from confluent_kafka import Consumer, TopicPartition

from schemas.topics import TopicNames
from tests.faults import check, proxy, results
from tests.faults.faults import FAULTS, POISON
from tests.faults.installation import Installation, installation
from tests.faults.traffic import Sender, Totals

pytestmark = [pytest.mark.root, pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.faults, pytest.mark.timeout(400)]

KILLED, STOPPED, PROXIED = 4.0, 15.0, 10.0  # seconds


class Ground:
    """An installation, and what was sent in it so far."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._stack = ExitStack()
        self._system: Installation | None = None
        self._sent: Totals = {}

    def suffers(self, name: str, seconds: float) -> Installation:
        """Let a fault happen under traffic, and check that nothing came of it."""

        def happen(system: Installation) -> None:
            with self._traffic(system):
                end = FAULTS[name](system, random.Random(name))
                system.mind(seconds)
                end()

        return self.checked(name, seconds, happen)

    def is_restarted(self, part: str) -> Installation:
        """Stop a part cleanly between two loads."""

        def happen(system: Installation) -> None:
            for _ in range(2):
                with self._traffic(system):
                    pass
                assert system.parts[part].stop() == 0
                system.parts[part].release()
                system.until(system.ready, "all parts well again")
            with self._traffic(system):
                pass

        return self.checked(f"clean restart of {part}, twice", 0, happen)

    def checked(self, name: str, seconds: float, happen: Callable[[Installation], None]) -> Installation:
        """Let it happen, then compare. What fails takes its installation with it."""
        try:
            if self._system is None:
                self._system = self._stack.enter_context(installation(workers=self._workers, disks=True))
            before = sum(packets for packets, _ in self._sent.values())
            happen(self._system)
            found = check.exact(self._system, self._sent)
        except BaseException:
            self.close()
            raise
        results.record(
            "each fault alone",
            f"{name}, {self._workers} worker{'s' if self._workers > 1 else ''}",
            seconds=seconds,
            sent=sum(packets for packets, _ in self._sent.values()) - before,
            stored=found.packets - before,
            settled_after_s=found.settle_seconds,
        )
        return self._system

    @contextmanager
    def _traffic(self, system: Installation) -> Iterator[None]:
        """For two seconds before and after the block, too."""
        with Sender(system.sends, rate=5_000) as sender:
            system.mind(2)
            yield
            system.mind(2)
        for port, (packets, octets) in sender.totals().items():
            had = self._sent.get(port, (0, 0))
            self._sent[port] = (had[0] + packets, had[1] + octets)

    def close(self) -> None:
        self._stack.close()
        self._system, self._sent = None, {}


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    made = Ground(workers=1)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def ground_of_three() -> Iterator[Ground]:
    made = Ground(workers=3)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("part", ["producer", "streams", "console", "clickhouse", "kafka"])
def test_a_part_is_killed(ground: Ground, part: str) -> None:
    ground.suffers(f"kill {part}", KILLED)


@pytest.mark.parametrize("part", ["streams", "clickhouse", "kafka"])
def test_a_part_is_restarted_cleanly(ground: Ground, part: str) -> None:
    ground.suffers(f"restart {part}", KILLED)


def test_the_producer_is_restarted_cleanly(ground: Ground) -> None:
    """Its next run has a new ring."""
    ground.is_restarted("producer")


@pytest.mark.parametrize("part", ["producer", "streams", "console", "clickhouse", "kafka"])
def test_a_part_is_stopped_for_a_while(ground: Ground, part: str) -> None:
    ground.suffers(f"stop {part}", STOPPED)


def test_all_parts_are_killed_at_once(ground: Ground) -> None:
    ground.suffers("kill all", KILLED)


@pytest.mark.parametrize("mode", proxy.MODES)
def test_clickhouse_answers_badly(ground: Ground, mode: str) -> None:
    harmed = ground.suffers(f"clickhouse {mode}", PROXIED).proxy.harmed
    assert harmed[mode] > 0


@pytest.mark.parametrize("disk", ["data", "kafka", "clickhouse", "spool"])
def test_a_disk_is_full(ground: Ground, disk: str) -> None:
    ground.suffers(f"{disk} disk full", PROXIED)


def test_messages_that_nobody_can_read_are_set_aside(ground: Ground) -> None:
    system = ground.suffers("poison", 1)
    chosen = random.Random("poison").sample(POISON, 4)
    assert set(dead_letters(system)) >= {value for value in chosen if value}


def dead_letters(system: Installation) -> list[bytes | None]:
    topic = TopicNames.of("ayaflow.").dead_letter
    consumer = Consumer({"bootstrap.servers": system.kafka, "group.id": "check", "enable.auto.commit": False})
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=60)
        consumer.assign([TopicPartition(topic, 0, low)])
        return [message.value() for message in consumer.consume(high - low, timeout=60)]
    finally:
        consumer.close()


def test_one_of_three_workers_is_killed(ground_of_three: Ground) -> None:
    ground_of_three.suffers("kill streams", KILLED)


def test_one_of_three_workers_is_stopped_and_comes_back(ground_of_three: Ground) -> None:
    """Its partitions are others' by then."""
    ground_of_three.suffers("stop streams", STOPPED)
