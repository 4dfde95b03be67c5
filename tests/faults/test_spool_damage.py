"""Batches on disk are damaged: what is lost is counted and named, and nothing else is lost. Long form."""

from pathlib import Path
from types import FunctionType

import pytest

from tests.faults import check, results
from tests.faults.installation import PRODUCER, STREAMS, Installation, installation
from tests.faults.traffic import Sender

pytestmark = [pytest.mark.root, pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.faults, pytest.mark.timeout(400)]


def flip(segment: Path) -> None:
    """Other bits at three places, as a bad disk has them."""
    size = segment.stat().st_size
    with segment.open("r+b") as file:
        for part in (0.25, 0.5, 0.75):
            file.seek(int(size * part))
            (octet,) = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([octet ^ 0xFF]))


def cut(segment: Path) -> None:
    """The last part is gone."""
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size * 2 // 3)


def segments(system: Installation) -> list[Path]:
    return sorted((system.directory / "data/spool" / system.node).glob("*.spool"))


@pytest.mark.parametrize("damage", [flip, cut])
def test_what_damage_takes_is_counted_and_named(damage: FunctionType) -> None:
    with installation() as system:
        with Sender(system.sends, rate=10_000) as sender:
            system.mind(3)
            system.parts["kafka"].kill()
            system.until(lambda: system.health(PRODUCER).get("spool_bytes", 0) > 1 << 20, "a megabyte on disk")
            system.parts["producer"].kill()
            damage(segments(system)[0])
            system.parts["producer"].release()
            system.until(lambda: bool(system.health(PRODUCER)), "the producer")
            system.parts["kafka"].release()
            system.until(lambda: system.ready() and not system.health(PRODUCER)["spool_bytes"], "an empty spool")
            system.mind(3)
        sent = sender.totals()
        system.until(lambda: not behind(system), "all is read")
        lost_bytes = system.metric(PRODUCER, "ayaflow_producer_spool_lost_bytes_total")
        code, report = check.audit(system, wait=20)
        stored = check.stored(system)
    wanted, have = (sum(packets for packets, _ in each.values()) for each in (sent, stored))
    told = sum(loss["lost"] for loss in report["losses"] if loss["kind"] == "events")
    print(report["message"])
    assert 0 < wanted - have < wanted / 2
    assert all(stored[port][0] <= packets for port, (packets, _) in sent.items() if port in stored)
    assert told == wanted - have, report["message"]
    assert (lost_bytes > 0) is (damage is flip)  # what is cut off leaves nothing behind that could be counted in bytes
    assert code == 1
    assert not report["exact"]
    results.record(
        "spool damage",
        damage.__name__,
        sent=wanted,
        stored=have,
        lost=wanted - have,
        events_named_by_the_audit=told,
        spool_bytes_named_by_the_producer=int(lost_bytes),
        audit=report["message"],
    )


def behind(system: Installation) -> bool:
    """Whether streams has something to read, or a window that is not stored, of before now."""
    state = system.health(STREAMS)
    return bool(state.get("lag_messages", 1)) or state.get("open_windows", 1) > 1
