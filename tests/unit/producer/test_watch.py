"""How long the loop sleeps between two looks at the ring."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from producer.capture.testing import memory_state
from producer.kafka.progress import Progress
from producer.watch import AWAY_WAIT, FILLED, FILLED_WAIT, SHORTEST_WAIT, watch

CALM = Progress(released=0)
LONGEST = 0.25


class Loop:
    """All that the loop has to do with; `look` is called before each look with its number, from 0."""

    ring_bytes = 1_000_000

    def __init__(self, looks: int, look: Callable[["Loop", int], object] = lambda _loop, _number: None) -> None:
        self.waits: list[float] = []
        self.descriptors_waited_for: list[tuple[int, ...]] = []
        self.order: list[str] = []
        self.now_ns = 0
        self.progress, self.read, self.ring_fill, self.overwhelmed = CALM, 0, 0.0, False
        self.hooks_patience, self.nothing_until = 9.0, 0.0
        self.state = memory_state()
        self.state.begin(ring_id=1, opened_ns=0)
        self._looks, self._look = looks, look

    def run(self) -> list[float]:
        watch(
            stop=self,
            publisher=_Publisher(self),
            capture=_Capture(self),
            hooks=_Hooks(self),
            state=self.state,
            longest=LONGEST,
            monotonic=lambda: self.now_ns,
        )
        return self.waits

    def is_set(self) -> bool:
        return len(self.waits) == self._looks

    def wait(self, seconds: float, descriptors: Iterable[int] = ()) -> None:
        self.waits.append(seconds)
        self.descriptors_waited_for.append(tuple(descriptors))
        self.now_ns += int(seconds * 1e9)
        self._look(self, len(self.waits) - 1)


class _Publisher:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def poll(self, seconds: float) -> Progress:
        assert seconds == 0
        self._loop.order.append("publisher")
        return self._loop.progress


class _Capture:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.ring_bytes = loop.ring_bytes

    @property
    def ring_fill(self) -> float:
        return self._loop.ring_fill

    @property
    def overwhelmed(self) -> bool:
        return self._loop.overwhelmed

    def step(self, progress: Progress) -> int:
        assert progress is self._loop.progress
        self._loop.order.append("capture")
        return self._loop.read

    def patience(self, longest: float) -> float:
        return max(longest, self._loop.nothing_until)


class _Hooks:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def patience(self) -> float:
        return self._loop.hooks_patience

    def descriptors(self) -> tuple[int, ...]:
        return (7, 8)

    def step(self) -> None:
        self._loop.order.append("hooks")


def test_an_idle_node_is_looked_at_ever_less_often_up_to_the_flush_time() -> None:
    waits = Loop(12).run()
    assert waits[0] == SHORTEST_WAIT
    assert waits[1:8] == pytest.approx([2 * wait for wait in waits[:7]])
    assert waits[-1] == LONGEST


def test_each_look_hears_kafka_then_reads_then_minds_the_interfaces() -> None:
    loop = Loop(2)
    loop.run()
    assert loop.order == ["publisher", "capture", "hooks"] * 2
    assert loop.descriptors_waited_for == [(7, 8)] * 2


def test_told_to_stop_before_it_begins_it_does_nothing() -> None:
    loop = Loop(0)
    assert loop.run() == []
    assert not loop.order


def test_the_hooks_are_not_kept_waiting() -> None:
    loop = Loop(12)
    loop.hooks_patience = 0.01
    assert max(loop.run()) == 0.01


def test_the_ring_fills_by_a_quarter_between_two_looks() -> None:
    rate = 10_000_000  # octets a second

    def flows(loop: Loop, _number: int) -> None:
        loop.read = int(loop.waits[-1] * rate)

    waits = Loop(20, flows).run()
    assert waits[-1] == pytest.approx(Loop.ring_bytes / 4 / rate, rel=0.01)


def test_however_fast_packets_come_it_sleeps_a_moment() -> None:
    loop = Loop(5)
    loop.read = 1 << 40
    assert loop.run()[1:] == [SHORTEST_WAIT] * 4


@pytest.mark.parametrize(
    ("changed", "wait"),
    [
        ({"ring_fill": FILLED}, LONGEST),
        ({"ring_fill": FILLED + 0.01}, FILLED_WAIT),
        ({"overwhelmed": True}, FILLED_WAIT),
        ({"progress": CALM._replace(error="no broker answers")}, AWAY_WAIT),
        ({"progress": CALM._replace(spooling=True)}, AWAY_WAIT),
        ({"progress": CALM._replace(held_back=True), "ring_fill": 0.9}, FILLED_WAIT),
        ({"nothing_until": 3.0}, 3.0),
    ],
)
def test_how_long_it_sleeps_in_the_end(changed: dict[str, Any], wait: float) -> None:
    loop = Loop(12)
    for name, value in changed.items():
        setattr(loop, name, value)
    assert loop.run()[-1] == wait


def test_where_kafka_stored_the_last_batch_is_written_down_for_who_comes_next() -> None:
    def acknowledge(loop: Loop, number: int) -> None:
        loop.progress = CALM if number == 0 else CALM._replace(stored=(3, number))

    loop = Loop(1, acknowledge)
    loop.run()
    assert (loop.state.kafka_partition, loop.state.kafka_offset) == (-1, -1)
    loop = Loop(4, acknowledge)
    loop.run()
    assert (loop.state.kafka_partition, loop.state.kafka_offset) == (3, 3)
