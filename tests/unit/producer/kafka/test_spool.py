"""Batches on disk: order, restarts, damage, a disk that is full."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.kafka import spool as spool_module
from producer.kafka.outbox import Batch, Message
from producer.kafka.publisher import SPOOL_AFTER_NS, Publisher
from producer.kafka.spool import Spool
from producer.kafka.testing import MemoryTransport


def batch(number: int, size: int = 100) -> Batch:
    value = b"%d " % number + bytes(size)
    return Batch(
        ring_id=9,
        ring_end=number,
        coalesced_end=0,
        epoch=number,
        packets=1,
        messages=(Message(topic="t", value=value), Message(topic="ü", value=b"")),
    )


_OPEN: list[Spool] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close all that a test has opened."""
    yield
    while _OPEN:
        _OPEN.pop().close()


class Disk:
    def __init__(self, directory: Path, limit: int = 1 << 30) -> None:
        self.lost: list[tuple[int, str]] = []
        self.spool = Spool(directory, limit_bytes=limit, on_loss=self._on_loss)
        _OPEN.append(self.spool)

    def _on_loss(self, octets: int, where: str) -> None:
        self.lost.append((octets, where))

    def rest(self) -> list[int]:
        found = []
        while each := self.spool.read():
            found.append(each.ring_end)
        return found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a few batches."""
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 1000)


def test_what_is_put_in_comes_out_whole_and_in_order(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    for number in range(5):
        disk.spool.append(batch(number))
    assert [disk.spool.read() for _ in range(6)] == [*map(batch, range(5)), None]
    disk.spool.append(batch(5))
    assert disk.spool.read() == batch(5)


@pytest.mark.usefixtures("small")
def test_what_is_not_done_is_there_after_a_restart_and_segments_go_when_they_are(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    for number in range(40):
        disk.spool.append(batch(number))
    many = len(list(tmp_path.glob("*.spool")))
    for number in range(25):
        assert disk.spool.read() == batch(number)
    for _ in range(20):
        disk.spool.done()
    assert len(list(tmp_path.glob("*.spool"))) < many
    again = Disk(tmp_path)
    assert again.spool.last() == batch(39)
    assert again.rest() == list(range(20, 40))
    for _ in range(20):
        again.spool.done()
    assert again.spool.empty
    assert list(tmp_path.glob("*.spool")) == []
    again.spool.append(batch(99))
    assert Disk(tmp_path).rest() == [99]
    assert not disk.lost + again.lost


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("cut", [1, 10, 60, 130])
def test_a_batch_that_was_being_written_is_cut_off_and_is_no_loss(tmp_path: Path, cut: int) -> None:
    disk = Disk(tmp_path)
    for number in range(10):
        disk.spool.append(batch(number))
    newest = max(tmp_path.glob("*.spool"))
    os.truncate(newest, newest.stat().st_size - cut)
    again = Disk(tmp_path)
    assert again.rest() == list(range(9))
    again.spool.append(batch(50))
    assert again.rest() == [50]
    assert Disk(tmp_path).rest() == [*range(9), 50]
    assert not again.lost


@pytest.mark.usefixtures("small")
def test_damage_loses_what_it_hits_and_is_told(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    for number in range(20):
        disk.spool.append(batch(number))
    oldest, second, *_ = sorted(tmp_path.glob("*.spool"))
    octets = bytearray(oldest.read_bytes())
    octets[len(octets) // 2] ^= 1
    oldest.write_bytes(octets)
    os.truncate(second, second.stat().st_size - 5)
    again = Disk(tmp_path)
    found = again.rest()
    assert len(found) == 18
    assert found == sorted(found)
    assert len(again.lost) == 2
    assert all(octets > 0 and str(tmp_path) in where for octets, where in again.lost)


@given(st.binary(max_size=3000), st.integers(0, 2000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_in_the_files_nothing_fails_and_batches_are_whole(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes, place: int
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    disk = Disk(directory)
    for number in range(8):
        disk.spool.append(batch(number))
    (segment,) = directory.glob("*.spool")
    octets = segment.read_bytes()
    segment.write_bytes(octets[:place] + garbage + octets[place:])
    found = Disk(directory).rest()
    assert set(found) <= set(range(8))
    assert len(found) >= 6


def test_a_full_spool_says_so(tmp_path: Path) -> None:
    disk = Disk(tmp_path, limit=1000)
    assert disk.spool.has_room(900)
    for number in range(3):
        disk.spool.append(batch(number))
    assert not disk.spool.has_room(900)
    disk.spool.read()
    disk.spool.done()
    assert not disk.spool.has_room(900)
    assert disk.spool.has_room(300)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path)
    disk.spool.append(batch(1))

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        with pytest.raises(OSError, match="No space"):
            disk.spool.append(batch(2))
    disk.spool.append(batch(3))
    assert Disk(tmp_path).rest() == [1, 3]


def test_a_new_segment_is_in_its_folder_before_its_batch_counts_as_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink())
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    disk = Disk(tmp_path)
    assert tmp_path.parent in synced  # the spool's own folder may be new, too
    synced.clear()
    disk.spool.append(batch(1))
    assert synced == [disk.spool._directory]
    disk.spool.append(batch(2))
    assert synced == [disk.spool._directory]


REFUSED = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)


class Setup:
    """A publisher with a disk."""

    def __init__(self, directory: Path, **disk: Any) -> None:
        self.now, self.directory = 0, directory
        self.broker = MemoryTransport(answers_itself=False)
        self.disk = Disk(directory, **disk)

        def open_transport(_on_error: Callable[[Any], None]) -> MemoryTransport:
            return self.broker

        self.publisher = Publisher(
            node="n", position=0, open_transport=open_transport, monotonic=lambda: self.now, spool=self.disk.spool
        )

    def pass_time(self) -> None:
        self.now += SPOOL_AFTER_NS + 1
        self.publisher.poll(0)

    @property
    def safe(self) -> int:
        return self.publisher.poll(0).released

    @property
    def stored(self) -> list[int]:
        return [int(value.split()[0]) for value in self.broker.stored if value]


def test_batches_that_wait_too_long_and_those_behind_them_go_to_disk_and_are_safe(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    for number in (1, 2):
        setup.publisher.send(batch(number))
    setup.publisher.poll(0)
    assert (setup.safe, setup.publisher.progress.spooling) == (0, False)
    setup.pass_time()
    assert (setup.safe, setup.publisher.progress.epoch, setup.publisher.progress.spooling) == (2, 2, True)
    setup.publisher.send(batch(3))
    assert setup.safe == 3
    setup.broker.answers_itself = True
    for _ in range(5):
        setup.publisher.poll(0)
    assert setup.stored == [1, 2, 3]
    assert not setup.publisher.progress.spooling
    assert setup.disk.spool.empty
    setup.publisher.send(batch(4))
    for _ in range(2):  # its second message goes when the first is stored
        setup.publisher.poll(0)
    assert (setup.safe, setup.stored) == (4, [1, 2, 3, 4])
    assert setup.publisher.poll(0).spool_bytes == 0


def test_after_a_restart_what_is_on_disk_goes_first(tmp_path: Path) -> None:
    first = Setup(tmp_path)
    for number in (1, 2):
        first.publisher.send(batch(number))
    first.pass_time()
    second = Setup(tmp_path)
    assert second.publisher.progress.spooling
    second.publisher.send(batch(3))
    second.broker.answers_itself = True
    for _ in range(5):
        second.publisher.poll(0)
    assert second.stored == [1, 2, 3]
    assert second.safe == 3


def test_with_a_full_disk_batches_wait_in_memory_and_nothing_overtakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = Setup(tmp_path)
    setup.publisher.send(batch(1))
    setup.pass_time()

    def full(_batch: Batch) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(setup.disk.spool, "append", full)
        setup.publisher.send(batch(2))
        assert not setup.publisher.has_room()
        assert setup.safe == 1
        assert setup.publisher.progress.disk_error == "No space left on device"
        setup.publisher.poll(0)
    setup.publisher.poll(0)
    assert setup.safe == 2
    assert setup.publisher.has_room()
    assert setup.publisher.progress.disk_error is None


STEPS = st.lists(
    st.sampled_from(["send", "send", "wait", "acknowledge", "refuse", "poll", "disk full", "disk free", "killed"]),
    max_size=80,
)


@given(STEPS)
def test_whatever_happens_all_that_is_safe_comes_to_kafka(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    setup, sent = Setup(directory), 0
    before: list[int] = []
    full = False

    def disk_is(now_full: bool) -> None:
        nonlocal full
        full = now_full
        append = Spool.append

        def may_fail(batch: Batch) -> None:
            if full:
                raise OSError(errno.ENOSPC, "No space left on device")
            append(setup.disk.spool, batch)

        setup.disk.spool.append = may_fail  # type: ignore[method-assign]

    disk_is(False)
    for step in [*steps, "disk free", *(["acknowledge", "poll"] * 200)]:
        if step == "send" and setup.publisher.has_room():
            sent += 1
            setup.publisher.send(batch(sent))
        elif step == "wait":
            setup.pass_time()
        elif step in {"acknowledge", "refuse"} and setup.broker.waiting:
            setup.broker.answer(REFUSED if step == "refuse" else None)
        elif step == "poll":
            setup.now += 2_000_000_000
            setup.publisher.poll(0)
        elif step.startswith("disk"):
            disk_is(step == "disk full")
        elif step == "killed":
            before += setup.stored
            safe = setup.safe
            setup = Setup(directory)
            setup.publisher.begin_at(safe)
            sent = safe
            disk_is(full)
    found = before + setup.stored
    assert {number for number in found if number <= sent} == set(range(1, sent + 1))
    assert setup.safe == sent
    assert setup.publisher.poll(0).spool_bytes == 0
