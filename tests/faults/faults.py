"""The faults, and schedules of them. A fault begins, and ends when its function is called."""

import random
import signal
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from confluent_kafka import Producer

from schemas.topics import TopicNames
from tests.faults import proxy
from tests.faults.installation import Installation, Part

End = Callable[[], None]
Fault = Callable[[Installation, random.Random], End]


def _part(system: Installation, name: str, dice: random.Random) -> Part:
    """streams: any of its workers."""
    return dice.choice(system.streams) if name == "streams" else system.parts[name]


def kill(name: str) -> Fault:
    """kill -9; at the end it is started again."""

    def begin(system: Installation, dice: random.Random) -> End:
        part = _part(system, name, dice)
        part.kill()
        return part.release

    return begin


def restart(name: str) -> Fault:
    """A clean stop; at the end it is started again. Not for the producer: it would leave, and see nothing."""

    def begin(system: Installation, dice: random.Random) -> End:
        part = _part(system, name, dice)
        part.ask_to_stop()

        def end() -> None:
            part.stop()
            part.release()

        return end

    return begin


def pause(name: str) -> Fault:
    """SIGSTOP, then SIGCONT."""

    def begin(system: Installation, dice: random.Random) -> End:
        part = _part(system, name, dice)
        part.signal(signal.SIGSTOP)
        return lambda: part.signal(signal.SIGCONT)

    return begin


def kill_all(system: Installation, dice: random.Random) -> End:
    """kill -9 of everything; started again in any order."""
    parts = list(system.parts.values())
    dice.shuffle(parts)
    for part in parts:
        part.kill()
    dice.shuffle(parts)

    def end() -> None:
        for part in parts:
            part.release()

    return end


def clickhouse(mode: str) -> Fault:
    """What streams meets when it asks ClickHouse; see proxy.MODES."""

    def begin(system: Installation, _: random.Random) -> End:
        system.proxy.mode = mode

        def end() -> None:
            system.proxy.mode = ""

        return end

    return begin


def full_disk(name: str) -> Fault:
    """No room for Kafka, for ClickHouse, or for the producer's spool."""

    def begin(system: Installation, _: random.Random) -> End:
        system.disks[name].fill()
        return system.disks[name].empty

    return begin


def spool_without_room(system: Installation, dice: random.Random) -> End:
    """Kafka is away and the disk is full: all waits in the kernel."""
    ends = [full_disk("spool")(system, dice), kill("kafka")(system, dice)]

    def end() -> None:
        for each in reversed(ends):
            each()

    return end


def nobody_can_write(system: Installation, dice: random.Random) -> End:
    """No room for logs and notes, and those who write them are killed and start while it is so."""
    end = full_disk("data")(system, dice)
    parts = [system.parts["producer"], system.parts["console"], *system.streams]
    for part in parts:
        part.kill()
    for part in parts:
        part.release()
    return end


POISON = (
    b"",
    b"\0",
    b"not ours",
    b"\0\0\0\0\2",
    b"\0\xff\xff\xff\xff" + bytes(40),
    struct.pack(">bI", 0, 1) + b"\xff" * 300,
    struct.pack(">bI", 0, 1) + bytes(1000),
    None,
)
"""Values that are no batch: empty, cut, of an unknown schema, damaged."""


def poison(system: Installation, dice: random.Random) -> End:
    """Messages in the packets topic that nobody can decode."""
    topic = TopicNames.of("ayaflow.").packets
    client = Producer({"bootstrap.servers": system.kafka, "log_level": 0, "message.timeout.ms": 60_000})
    for value in dice.sample(POISON, 4):
        client.produce(topic, value=value, key=b"poison", partition=dice.randrange(4))

    def end() -> None:
        client.flush(60)

    return end


FAULTS: dict[str, Fault] = {
    **{f"kill {name}": kill(name) for name in ("producer", "streams", "console", "clickhouse", "kafka")},
    **{f"restart {name}": restart(name) for name in ("streams", "console", "clickhouse", "kafka")},
    **{f"stop {name}": pause(name) for name in ("producer", "streams", "console", "clickhouse", "kafka")},
    **{f"clickhouse {mode}": clickhouse(mode) for mode in proxy.MODES},
    "kafka disk full": full_disk("kafka"),
    "data disk full": nobody_can_write,
    "clickhouse disk full": full_disk("clickhouse"),
    "spool disk full": spool_without_room,
    "poison": poison,
    "kill all": kill_all,
}
_TOUCHES = {
    "kafka disk full": {"kafka"},
    "clickhouse disk full": {"clickhouse"},
    "spool disk full": {"kafka"},
    "data disk full": {"producer", "streams", "console"},
    "poison": {"poison"},
    "kill all": {"all"},
}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Planned:
    """A fault of a schedule; seconds from its beginning."""

    at: float
    seconds: float
    name: str

    def touches(self) -> set[str]:
        """What it is done to: two faults at a time do not meet there."""
        kind, what = (*self.name.split(), "")[:2]
        return _TOUCHES.get(self.name) or {what if kind in {"kill", "stop", "restart"} else "proxy"}


def schedule(
    dice: random.Random, *, seconds: float, pause: float, longest: float, names: Iterable[str] = tuple(FAULTS)
) -> list[Planned]:
    """Faults at random moments, every `pause` seconds or so, each for up to `longest`; all kinds before any again.

    They overlap, but not two on the same part.
    """
    planned: list[Planned] = []
    bag: list[str] = []
    at = dice.uniform(0.5, 2.0)
    while at < seconds:
        if not bag:
            bag = sorted(names)
            dice.shuffle(bag)
        wanted = Planned(at=round(at, 3), seconds=round(dice.uniform(0.2, longest), 3), name=bag.pop())
        at += dice.uniform(0.3, 2 * pause)
        others = [each for each in planned if each.at + each.seconds + 1 > wanted.at]
        if not any(each.touches() & wanted.touches() or "all" in each.touches() | wanted.touches() for each in others):
            planned.append(wanted)
        elif others:
            after = max(each.at + each.seconds for each in others) + 1.1
            planned.append(Planned(at=round(after, 3), seconds=wanted.seconds, name=wanted.name))
            at = max(at, after + 0.3)
    return sorted(planned)


@dataclass(slots=True)
class Runner:
    """Lets a schedule happen."""

    system: Installation
    dice: random.Random
    happened: list[str] = field(default_factory=list)

    def run(self, planned: Iterable[Planned], *, clock: Callable[[], float]) -> None:
        """Each fault begins and ends in its time; all are ended when this returns."""
        begin = clock()
        moments: list[tuple[float, int, str, Planned]] = []
        for number, each in enumerate(planned):
            moments += [(each.at, number, "begin", each), (each.at + each.seconds, number, "end", each)]
        ends: dict[int, End] = {}
        try:
            for moment, number, what, each in sorted(moments, key=lambda item: item[:2]):
                self.system.mind(max(0.0, begin + moment - clock()))
                if what == "begin":
                    ends[number] = FAULTS[each.name](self.system, self.dice)
                    self.happened.append(f"{clock() - begin:.1f} {each.name} {each.seconds:.1f}")
                else:
                    ends.pop(number)()
        finally:
            for end in ends.values():
                end()
