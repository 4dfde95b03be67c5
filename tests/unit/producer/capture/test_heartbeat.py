"""The kernel program goes on counting whatever we wait for; a time in which it did not is told until all know of it."""

import mmap
import os
import threading
from collections.abc import Iterator

import pytest

from producer.capture import heartbeat
from producer.capture.heartbeat import Heartbeat
from producer.capture.testing import memory_state
from producer.clock import WallClock
from producer.kernel.abi import CONFIG
from producer.kernel.maps import ConfigPage, Life
from producer.kernel.run_state import RunState
from tests.unit.producer.node import MS, WALL, Node
from tests.waiting import HANG_SECONDS

SECOND = 1_000_000_000


@pytest.fixture
def config() -> Iterator[ConfigPage]:
    fd = os.memfd_create("config")
    os.ftruncate(fd, mmap.PAGESIZE)
    page = ConfigPage(fd, CONFIG)
    yield page
    page.close()
    os.close(fd)


@pytest.fixture
def state() -> RunState:
    state = memory_state()
    state.begin(ring_id=9, opened_ns=0)
    return state


def test_who_was_never_told_was_not_idle(config: ConfigPage, state: RunState) -> None:
    life = Life(config, state, orphan_timeout_seconds=5)
    assert life.live(100 * SECOND, 7) == 0
    assert config.alive_until_ns == 105 * SECOND
    assert life.live(105 * SECOND, 7) == 0
    assert state.idle() == (0, 0)


def test_times_without_a_word_of_us_are_one_until_they_are_told(config: ConfigPage, state: RunState) -> None:
    life = Life(config, state, orphan_timeout_seconds=5)
    life.live(100 * SECOND, 7)
    assert life.live(107 * SECOND, 7) == 2 * SECOND
    assert state.idle() == (105 * SECOND, 107 * SECOND)
    life.live(120 * SECOND, 7)
    assert state.idle() == (105 * SECOND, 120 * SECOND)
    state.idle_told(107 * SECOND)  # by a message that was sent before the second one
    assert state.idle() == (105 * SECOND, 120 * SECOND)
    state.idle_told(120 * SECOND)
    assert state.idle() == (0, 0)
    life.live(130 * SECOND, 7)
    assert state.idle() == (125 * SECOND, 130 * SECOND)


class Program:
    """Obeys heartbeat.Program."""

    def __init__(self) -> None:
        self.told = threading.Semaphore(0)
        self.error: Exception | None = None

    def live(self, now_ns: int, offset_ns: int) -> int:
        self.told.release()
        if self.error:
            raise self.error
        return 0


def test_it_goes_on_while_we_wait_and_after_an_error_and_ends_with_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS", 0.001)
    program = Program()
    with Heartbeat([program], WallClock()):
        assert program.told.acquire(timeout=HANG_SECONDS)
        program.error = OSError(5, "no")
        for _ in range(5):  # we do nothing but wait, as for a disk that hangs
            assert program.told.acquire(timeout=HANG_SECONDS)
        program.error = None
    while program.told.acquire(blocking=False):
        pass
    assert not program.told.acquire(timeout=0.05)


def test_an_idle_time_is_told_with_the_end_of_an_epoch_until_that_is_safe() -> None:
    node = Node()
    node.state.was_idle(node.now - 300 * MS, node.now)
    idle = (node.now - 300 * MS + WALL, node.now + WALL)
    node.broker.answers_itself = False
    node.packet()
    node.after(1_200)
    assert not node.broker.stored
    node.broker.answers_itself = True
    node.start()  # killed before Kafka has answered, and it has nothing
    batches = node.after(2_500)
    assert [(batch.idle_start_ns, batch.idle_end_ns) for batch in batches if batch.idle_end_ns] == [idle]
    assert node.state.idle() == (0, 0)
