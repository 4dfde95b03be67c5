"""Reading the live topic: brokers that go and come back, foreign messages, a topic that is made anew."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from console.live.reader import AGAIN_SECONDS, NODES_KEPT, SILENCE_SECONDS, LiveReader
from console.testing import MemoryTopic, flow, live_stats
from schemas.avro.codec import Codec
from schemas.topics import TopicNames

TOPICS = TopicNames.of("ayaflow.")
CODEC = Codec(None, TOPICS)
OLD = CODEC.encode_live_stats(live_stats(0, node="old"))


def message(second: float, node: str = "n1") -> bytes:
    return CODEC.encode_live_stats(live_stats(second, node=node))


class Play:
    """A reader in this thread. Each time it has nothing to do, or would sleep, the next step happens; then it ends."""

    def __init__(self, *steps: Callable[["Play"], object]) -> None:
        self.topic = MemoryTopic(TOPICS.live, self.next, [[OLD]])
        self.now = 0.0
        self.heard: list[tuple[str, float]] = []  # node, second
        self.problems: list[str] = []  # at each step
        self.slept: list[float] = []
        self.ended = False
        self._steps = list(steps)
        self.reader = LiveReader(TOPICS, self.topic.connect, heard=self.hear, done=self, clock=lambda: self.now)

    def hear(self, stats: dict[str, Any]) -> None:
        self.heard.append((stats["node"], stats["time"].second))

    def next(self) -> None:
        self.problems.append(self.reader.problem)
        if self._steps:
            self._steps.pop(0)(self)
        else:
            self.set()

    def run(self) -> "Play":
        self.reader.run()
        return self

    def send(self, value: bytes, partition: int = 0) -> None:
        self.topic.partitions[partition].append(value)

    # what the reader asks of a threading.Event

    def set(self) -> None:
        self.ended = True

    def is_set(self) -> bool:
        return self.ended

    def wait(self, timeout: float) -> bool:
        self.slept.append(timeout)
        self.next()
        return self.ended


def away(play: Play) -> None:
    play.topic.away = True


def back(play: Play) -> None:
    play.topic.away = False


def test_reading_begins_at_the_end() -> None:
    play = Play(lambda play: play.send(message(1))).run()
    assert play.heard == [("n1", 1)]
    assert list(play.reader.stats) == ["n1"]
    assert play.problems == ["", ""]
    assert play.topic.closed == play.topic.opened == 1


def test_a_broker_that_is_away_at_first_is_asked_again() -> None:
    play = Play(back, lambda play: play.send(message(1)))
    away(play)
    play.run()
    assert play.problems == ["cannot read ayaflow.live: all brokers are down", "", ""]
    assert play.slept == [AGAIN_SECONDS]
    assert play.heard == [("n1", 1)]
    assert play.topic.closed == play.topic.opened == 2


def test_after_an_outage_reading_goes_on_where_it_was() -> None:
    def goes_and_one_is_missed(play: Play) -> None:
        away(play)
        play.send(message(2))

    play = Play(lambda play: play.send(message(1)), goes_and_one_is_missed, back, lambda play: play.send(message(3)))
    play.run()
    assert play.heard == [("n1", 1), ("n1", 2), ("n1", 3)]
    assert "cannot read ayaflow.live: broker transport failure" in play.problems
    assert play.reader.problem == ""
    assert play.topic.closed == play.topic.opened


def test_a_foreign_message_is_left_out_and_told_until_the_next_good_one() -> None:
    def send_both(play: Play) -> None:
        play.send(b"\x00what is this")

    play = Play(send_both, lambda play: play.send(message(2))).run()
    assert play.heard == [("n1", 2)]
    assert play.problems[1].startswith("a message of ayaflow.live is left out: ")
    assert play.problems[2] == ""
    assert play.topic.opened == 1


def test_messages_that_cannot_be_right_are_left_out_and_counted() -> None:
    def send(play: Play) -> None:
        for wrong in (
            {"time": datetime(9999, 12, 31, tzinfo=UTC)},
            {"time": datetime(1900, 1, 1, tzinfo=UTC)},
            {"node": ""},
            {"node": "n" * 10_000},
            {"interval_ms": -1},
            {"active_flows": -(2**62)},
            {"lag_messages": 2**62},
            {"interfaces": [{**live_stats(1)["interfaces"][0], "packets": -1}]},
            {"interfaces": [{**live_stats(1)["interfaces"][0], "interface": "e" * 1_000}]},
            {"interfaces": live_stats(1)["interfaces"] * 20_000},
            {"top": [flow(0, 1, 100, src_addr="nowhere")]},
            {"top": [flow(0, 1, 100, src_port=70_000)]},
            {"top": [flow(0, 1, -100)]},
            {"top": [{**flow(0, 1, 100), "last_seen": datetime(9999, 1, 1, tzinfo=UTC)}]},
        ):
            play.send(CODEC.encode_live_stats({**live_stats(1, node="evil"), **wrong}))
        play.send(b"\x00" * 10_000_000)
        play.send(b"")

    play = Play(send, lambda play: play.send(message(2))).run()
    assert play.heard == [("n1", 2)]
    assert play.reader.left_out == 16
    assert "octets" in play.reader.reason or "framing" in play.reader.reason
    assert play.reader.problem == ""
    assert play.topic.opened == 1


def test_a_message_that_we_fail_at_is_left_out_and_told() -> None:
    play = Play(lambda play: play.send(message(1, "bad")), lambda play: play.send(message(2)))
    hear = play.hear

    def heard(stats: dict[str, Any]) -> None:
        if stats["node"] == "bad":
            raise KeyError("interfaces")
        hear(stats)

    play.reader._heard = heard
    play.run()
    assert play.heard == [("n1", 2)]
    assert (play.reader.left_out, play.reader.reason) == (1, "KeyError('interfaces')")
    assert play.reader._background.problem.startswith("what takes in live messages fails again and again (KeyError")


def test_what_nobody_foresaw_ends_no_reading() -> None:
    play = Play(lambda play: play.send(message(1)))
    connect, failures = play.topic.connect, [RuntimeError("no more threads")]

    def broken() -> Any:
        if failures:
            raise failures.pop()
        return connect()

    play.reader._connect = broken
    play._steps.insert(0, lambda play: None)
    play.run()
    assert play.problems[0] == "cannot read ayaflow.live: RuntimeError('no more threads')"
    assert play.heard == [("n1", 1)]


def test_the_nodes_that_are_kept_are_those_heard_of_last_whatever_their_clocks() -> None:
    def send(play: Play) -> None:
        play.send(message(50_000, "ahead"))
        for number in range(NODES_KEPT):
            play.send(message(number / 1000, f"n{number}"))

    play = Play(send).run()
    assert "ahead" not in play.reader.stats
    assert len(play.reader.stats) == NODES_KEPT


def test_a_topic_that_does_not_exist_yet_is_waited_for() -> None:
    def made(play: Play) -> None:
        play.topic.partitions = [[]]

    play = Play(made, lambda play: play.send(message(1)))
    play.topic.partitions = []
    play.run()
    assert play.problems[0] == "the topic ayaflow.live does not exist yet"
    assert play.slept == [AGAIN_SECONDS]
    assert play.heard == [("n1", 1)]


def test_after_a_silence_it_looks_for_partitions_again() -> None:
    def grows_in_silence(play: Play) -> None:
        play.now += SILENCE_SECONDS
        play.topic.partitions.append([])

    play = Play(lambda play: play.send(message(1)), grows_in_silence, lambda play: play.send(message(2, "n2"), 1)).run()
    assert play.heard == [("n1", 1), ("n2", 2)]
    assert [sorted(asked) for asked in play.topic.assigned] == [[0], [0, 1]]
    assert play.topic.assigned[1][0] == 2  # behind what was read, not at the end


def test_a_message_puts_the_end_of_the_silence_off() -> None:
    def quiet(play: Play) -> None:
        play.now += SILENCE_SECONDS - 1

    def heard(play: Play) -> None:
        play.send(message(1))

    assert Play(quiet, heard, quiet).run().topic.opened == 1
    assert Play(quiet, quiet).run().topic.opened == 2


def test_of_many_nodes_the_newest_are_kept() -> None:
    def send(play: Play) -> None:
        for number in range(NODES_KEPT + 1):
            play.send(message(number / 1000, f"n{number}"))

    play = Play(send).run()
    assert len(play.reader.stats) == NODES_KEPT
    assert "n0" not in play.reader.stats


def test_leaving_ends_the_thread() -> None:
    play = Play()
    with play.reader as reader:
        pass
    reader.join(60)
    assert not reader.is_alive()
    assert play.topic.closed == play.topic.opened
