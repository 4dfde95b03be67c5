"""The live view between its reader and its clients."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from console.live import hub as hub_module
from console.live.hub import STREAM_TOP, LiveHub
from console.live.reader import Heard
from console.query import filters
from console.show import names
from console.testing import START, MemoryReader, flow, live_stats

EVERYTHING = filters.parse("")
LONG = 60.0  # not waited for, when all is well


class Setup:
    """A hub, its reader, and a clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.readers: list[MemoryReader] = []
        self.hub = LiveHub(60, self.open, clock=lambda: self.now, wall=lambda: START)

    def open(self, heard: Heard) -> MemoryReader:
        self.readers.append(MemoryReader(heard))
        return self.readers[-1]

    @property
    def reader(self) -> MemoryReader:
        return self.readers[0]

    def hear(self, second: float, *ports: int, node: str = "n1") -> None:
        flows = [flow(0, second, 1000, src_port=port) for port in ports]
        self.reader.heard(live_stats(second, *flows, node=node, packets=10, bytes=1000, ring_full_packets=2))

    def ports(self, text: str = "", limit: int = 10) -> list[int]:
        answer = json.loads(self.hub.connections("bytes", limit, filters.parse(text)))
        assert answer["time"] == "2026-05-01T12:00:00.000000Z"
        return sorted(row["src_port"] for row in answer["connections"])


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_what_was_heard_is_answered(setup: Setup) -> None:
    setup.hear(1, 1001, 1002)
    setup.hear(1, 1003, node="n2")
    assert setup.ports() == [1001, 1002, 1003]
    assert setup.ports("src_port = 1002") == [1002]
    assert len(setup.ports(limit=2)) == 2
    stats = setup.hub.stats()
    assert (stats["nodes"], stats["active_connections"], stats["dropped_packets_total"]) == (2, 3, 4)
    passed, active = setup.hub.metrics()
    assert passed["n1", "eth0", "ingress"]["packets"] == 10
    assert dict(active) == {"n1": 2, "n2": 1}


def test_an_answer_is_made_once_until_something_changes(setup: Setup) -> None:
    setup.hear(1, 1001)
    first = setup.hub.connections("bytes", 10, EVERYTHING)
    assert setup.hub.connections("bytes", 10, EVERYTHING) is first
    assert setup.hub.connections("packets", 10, EVERYTHING) is not first
    setup.now += 1
    second = setup.hub.connections("bytes", 10, EVERYTHING)
    assert second is not first
    setup.hear(2, 1001, 1002)
    assert setup.hub.connections("bytes", 10, EVERYTHING) is not second
    assert setup.ports() == [1001, 1002]


def test_answers_to_ever_new_questions_are_not_all_kept(setup: Setup) -> None:
    setup.hear(1, 1001)
    first = setup.hub.connections("bytes", 1, EVERYTHING)
    for limit in range(2, 1000):
        setup.hub.connections("bytes", limit, EVERYTHING)
    assert setup.hub.connections("bytes", 1, EVERYTHING) is not first


def test_a_snapshot_has_the_nodes_the_largest_connections_and_what_is_wrong(setup: Setup) -> None:
    setup.hear(1, *range(1000, 1000 + STREAM_TOP + 10))
    setup.reader.problem = "cannot read ayaflow.live: all brokers are down"
    message = json.loads(setup.hub.snapshot())
    assert [node["node"] for node in message["nodes"]] == ["n1"]
    assert len(message["connections"]) == STREAM_TOP
    assert message["share"] == names.share_of(message["connections"])
    assert message["share"]["total"]["bytes"] > 0
    assert message["problem"] == setup.hub.problem == "cannot read ayaflow.live: all brokers are down"


def test_a_client_that_is_slow_gets_the_newest_and_misses_the_others(setup: Setup) -> None:
    async def play() -> tuple[tuple[int, str], tuple[int, str]]:
        await setup.hub.tick()
        first = await setup.hub.next(0)
        for second in (1, 2, 3):
            setup.hear(second, 1000 + second)
            await setup.hub.tick()
        return first, await setup.hub.next(first[0])

    (_, before), (number, after) = asyncio.run(play())
    assert number == 4
    assert json.loads(before)["connections"] == []
    assert {row["src_port"] for row in json.loads(after)["connections"]} == {1001, 1002, 1003}


def test_all_that_wait_get_the_same_message_and_none_gets_it_twice(setup: Setup) -> None:
    async def play() -> tuple[list[tuple[int, str]], bool]:
        waiting = [asyncio.create_task(setup.hub.next(0)) for _ in range(3)]
        found = await asyncio.wait_for(asyncio.gather(*waiting), LONG)
        again = asyncio.create_task(setup.hub.next(found[0][0]))
        await asyncio.sleep(0)
        done = again.done()
        again.cancel()
        return found, done

    found, again = asyncio.run(play())
    assert len({id(message) for _, message in found}) == 1
    assert not again


def test_it_ticks_and_reads_while_it_is_open(setup: Setup) -> None:
    async def play() -> Any:
        async with setup.hub as hub:
            assert setup.reader.runs
            return await asyncio.wait_for(hub.next(0), LONG)

    number, message = asyncio.run(play())
    assert number >= 1
    assert json.loads(message)["problem"] == ""
    assert not setup.reader.runs


def test_without_a_client_no_messages_are_made(setup: Setup) -> None:
    made = 0

    def snapshot() -> str:
        nonlocal made
        made += 1
        return "{}"

    async def play() -> tuple[int, int]:
        setup.hub.snapshot = snapshot  # type: ignore[method-assign]
        async with setup.hub as hub:
            await asyncio.sleep(2.5 * hub_module.TICK_SECONDS)
            before = made
            await asyncio.wait_for(hub.next((await hub.next(0))[0]), LONG)
            return before, made

    hub_module.TICK_SECONDS = 0.02
    try:
        before, after = asyncio.run(play())
    finally:
        hub_module.TICK_SECONDS = 1.0
    assert (before, after) == (0, 2)


def test_a_snapshot_that_fails_is_told_and_the_next_one_is_made(setup: Setup) -> None:
    failing = True
    good = setup.hub.snapshot

    def snapshot() -> str:
        if failing:
            raise OverflowError("date value out of range")
        return good()

    async def play() -> tuple[str, int]:
        nonlocal failing
        setup.hub.snapshot = snapshot  # type: ignore[method-assign]
        async with setup.hub as hub:
            waiting = asyncio.create_task(hub.next(-1))
            hub._number = -1  # as a client that has one already
            for _ in range(6_000):
                if hub.health()[0]:
                    break
                await asyncio.sleep(0.01)
            problem = hub.health()[0]
            failing = False
            return problem, (await asyncio.wait_for(waiting, LONG))[0]

    problem, number = asyncio.run(play())
    assert problem.startswith("what makes the live view's messages fails again and again (OverflowError")
    assert number >= 0
    setup.now += 60
    assert setup.hub.health() == ("", {})
    setup.reader.left_out, setup.reader.reason = 3, "no framing"
    assert setup.hub.health()[1] == {"live_messages_left_out": 3, "left_out_because": "no framing"}


class Phonebook:
    """A console.live.hub.Naming that knows one address."""

    def __init__(self) -> None:
        self.counts = {"found": 1, "absent": 0, "failed": 0, "left_out": 0}

    def name(self, address: str) -> str:
        return "two.example" if address == "10.0.0.2" else ""

    def mark(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            if not row["domain"] and (name := self.name(row["dst_addr"])):
                row["domain"], row["domain_source"] = name, "reverse"


def test_what_has_no_name_is_named_by_reverse_dns_and_marked() -> None:
    readers: list[MemoryReader] = []

    def open_reader(heard: Heard) -> MemoryReader:
        readers.append(MemoryReader(heard))
        return readers[-1]

    hub = LiveHub(60, open_reader, clock=lambda: 100.0, wall=lambda: START, naming=Phonebook())
    said = {"domain": "www.example.org", "domain_source": "sni"}
    flows = [flow(0, 1, 3000, src_port=1, **said), flow(0, 1, 2000, src_port=2), flow(0, 1, 1000, dst_addr="10.0.0.9")]
    readers[0].heard(live_stats(1, *flows, copied_packets=7))
    expected = [("www.example.org", "sni"), ("two.example", "reverse"), ("", "")]
    for answer in (hub.connections("bytes", 10, EVERYTHING), hub.snapshot()):
        rows = json.loads(answer)["connections"]
        assert [(row["domain"], row["domain_source"]) for row in rows] == expected
    # filters see what was read, not what somebody says of an address
    other = 'domain = .example or domain_source not in ("", sni, http, quic, dns)'
    answer = json.loads(hub.connections("bytes", 10, filters.parse(other)))
    assert answer["connections"] == []
    assert len(json.loads(hub.connections("bytes", 10, filters.parse("domain = .ORG")))["connections"]) == 1
    stats = hub.stats()
    assert (stats["domains_resolved_total"], stats["deep_inspect_packets_total"]) == (2, 7)
