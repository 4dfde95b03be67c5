"""Operators beside a worker: they see each stored revision, and hold nothing up."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from common.errors import ServiceUnavailable
from streams.operators.shown import Shown
from streams.partition.storing import Refused
from streams.worker.output import operating
from streams.worker.output.operating import PATIENCE_SECONDS, SLOW_SECONDS
from tests.unit.streams.worker.rig import Rig, Source


@dataclass
class Watcher:
    """An operator's runner that notes what it is shown, and may be as bad as one of a user's."""

    name: str = "watcher"
    seen: list[tuple[int, int]] = field(default_factory=list)  # window, revision
    fails: Callable[[], None] = lambda: None

    tables: list[pa.Table] = field(default_factory=list)

    def run(self, shown: Shown) -> int:
        self.fails()
        self.seen.append((shown.flows.window_begin, shown.revision))
        self.tables.append(shown.table())
        return 1


def failing(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


async def fed(rig: Rig, windows: int = 1) -> None:
    """So many windows of one node, closed and stored."""
    node = Source()
    for number in range(windows):
        await rig.send(node.batch(number * 10 + 1, clock=number * 10 + 2))
    await rig.send(node.batch(clock=windows * 10 + 1))
    for _ in range(3):  # stored, seen, acknowledged
        await rig.clock.advance(0.3)


async def test_an_operator_sees_each_revision_that_is_stored() -> None:
    watcher = Watcher()
    rig = Rig(operators=[watcher])
    await fed(rig, windows=3)
    assert watcher.seen == [(1_800_000_000 + 10 * number, 0) for number in range(3)]
    (told,) = rig.worker.health()["operators"]
    assert (told["windows"], told["found"], told["left_out"], told["error"]) == (3, 3, 0, None)


async def test_one_that_raises_is_told_and_holds_nothing_up() -> None:
    watcher = Watcher(fails=failing(KeyError("mine")))
    rig = Rig(operators=[watcher])
    await fed(rig)
    assert (rig.store.packets, len(rig.publisher.sent), len(rig.acked)) == (1, 1, 1)
    health = rig.worker.health()
    assert not health["ok"]
    assert "the operator watcher raised KeyError: 'mine'" in health["troubles"][0]["error"]
    assert rig.metric("operator_left_out_windows_total", operator="watcher") == 1
    watcher.fails = lambda: None
    node = Source(name="n2", ring_id=8)
    await rig.send(node.batch(31, clock=32), node.batch(clock=45))
    await rig.clock.advance(1)
    await rig.clock.advance(1)
    assert rig.worker.health()["operators"][0]["left_out"] == 1


async def test_one_that_ends_the_process_does_not() -> None:
    rig = Rig(operators=[Watcher(fails=failing(SystemExit(3)))])
    await fed(rig)
    assert not rig.worker.failure.done()
    assert "RuntimeError: SystemExit: 3" in rig.worker.health()["troubles"][0]["error"]


async def test_a_table_that_refuses_its_rows_is_its_own_trouble() -> None:
    rig = Rig(operators=[Watcher(fails=failing(Refused("no such column")))])
    await fed(rig)
    assert "no such column" in rig.worker.health()["troubles"][0]["error"]
    assert len(rig.acked) == 1


async def test_while_its_outputs_are_away_it_is_shown_again_and_nothing_is_acknowledged() -> None:
    watcher = Watcher(fails=failing(ServiceUnavailable("away")))
    rig = Rig(operators=[watcher])
    await fed(rig)
    assert (rig.store.packets, rig.acked) == (1, [])
    watcher.fails = lambda: None
    await rig.clock.advance(1)
    await rig.clock.advance(1)
    assert (len(watcher.seen), len(rig.acked)) == (1, 1)
    assert rig.worker.health()["ok"]


async def test_what_it_never_gets_rid_of_is_left_out_in_the_end() -> None:
    rig = Rig(operators=[Watcher(fails=failing(ServiceUnavailable("away")))])
    await fed(rig)
    for _ in range(30):
        await rig.clock.advance(PATIENCE_SECONDS / 20)
    assert (len(rig.acked), rig.worker.health()["operators"][0]["left_out"]) == (1, 1)


async def test_one_that_is_slow_is_told_and_in_the_end_not_waited_for() -> None:
    rig = Rig(operators=[Watcher(), Watcher(name="other")])
    rig.threads.hold("operator-watcher")
    await fed(rig)
    assert (rig.store.packets, len(rig.publisher.sent), rig.acked) == (1, 1, [])
    assert rig.worker.health()["operators"][1]["windows"] == 1  # no operator waits for another
    for _ in range(40):
        await rig.clock.advance(1)
    assert "has worked on a window for 30 seconds" in rig.worker.health()["troubles"][0]["error"]
    assert SLOW_SECONDS < 40 < PATIENCE_SECONDS
    for _ in range(100):
        await rig.clock.advance(1)
    assert (len(rig.acked), rig.worker.health()["operators"][0]["left_out"]) == (1, 1)
    await rig.threads.let_go("operator-watcher")


async def test_rows_beyond_the_memory_are_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operating, "MOST_BYTES", 1)
    watcher = Watcher()
    rig = Rig(operators=[watcher])
    await fed(rig)
    assert len(watcher.seen) == 1


async def test_operators_share_the_rows_that_wait_and_the_table_that_is_made_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operating, "MOST_BYTES", 200)  # one window of a row, and not two
    slow, a, b = watchers = [Watcher(name=name) for name in ("slow", "a", "b")]
    rig, node = Rig(operators=watchers), Source()

    async def window(number: int) -> None:
        await rig.send(node.batch(number * 10 + 1, clock=number * 10 + 2), node.batch(clock=number * 10 + 11))
        for _ in range(4):
            await rig.clock.advance(0.3)

    rig.threads.hold("operator-slow")
    await window(0)
    assert (len(slow.tables), a.tables[0] is b.tables[0]) == (0, True)
    await window(1)
    assert a.tables[1] is not b.tables[1], "there is no room while one has not seen the first: each reads it back"
    await rig.threads.let_go("operator-slow")
    for _ in range(4):
        await rig.clock.advance(0.3)
    assert slow.tables[0] is a.tables[0]
    await window(2)
    assert slow.tables[2] is a.tables[2] is b.tables[2], "what all have seen takes no room"
    assert all(watcher.seen == slow.seen for watcher in watchers)
