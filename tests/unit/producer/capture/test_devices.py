"""The devices' own counters beside ours: what is a hole, and what only looks like one."""

from typing import Any

import pytest

from producer.capture.devices import FIRST_NS, READ_NS, DeviceCount, Devices
from producer.capture.testing import counters
from schemas.packets import EGRESS, INGRESS, EpochCounters

SECOND = READ_NS // 5
PLACE = ("v0", INGRESS)


class Device:
    """One device, its hook and a producer that closes an epoch a second; packets of 100 bytes."""

    def __init__(self) -> None:
        self.now, self.epoch, self.count, self.seen = READ_NS, 0, DeviceCount(1_000, 100_000), 0
        self.devices = Devices(lambda: self.now)
        self.devices.follow(lambda: {PLACE: self.count} if self.there else {})
        self.there = True
        self.rows: list[EpochCounters] = []
        self.close()
        self.now += FIRST_NS - READ_NS  # so that the first reading, too, is five epochs later

    def passes(self, packets: int, *, seen: int | None = None) -> None:
        """The device counts so many, and the hook sees all, or so many."""
        self.count = DeviceCount(self.count.packets + packets, self.count.bytes + 100 * packets)
        self.seen += packets if seen is None else seen

    def close(self) -> EpochCounters:
        """The open epoch's row. What passes while it is closed is the next one's."""
        self.epoch += 1
        self.devices.before()
        row = counters(epoch=self.epoch, interface="v0", seen_packets=self.seen, seen_bytes=100 * self.seen)
        self.seen = 0
        self.devices.after()
        (row,) = self.devices.compare(self.epoch, [row], 0, 0)
        self.rows.append(row)
        return row

    def reading(self, packets: int = 0, **seen: int) -> EpochCounters:
        """Five epochs, the last of which ends with a reading; packets pass in the third."""
        for each in range(5):
            self.now += SECOND
            if each == 2:
                self.passes(packets, **seen)
            row = self.close()
        return row


def device_columns(row: EpochCounters) -> tuple[int, int, int, int]:
    return row.device_epochs, row.device_packets, row.device_bytes, row.unseen_packets


def holes(device: Device) -> list[tuple[int, int]]:
    return [(hole.device_packets, hole.unseen_packets) for hole in device.devices.holes]


def test_what_both_count_is_no_hole() -> None:
    device = Device()
    assert device_columns(device.rows[0]) == (0, 0, 0, 0)  # from then on
    assert device_columns(device.reading(400)) == (5, 400, 40_000, 0)
    assert [row.device_epochs for row in device.rows] == [0, 0, 0, 0, 0, 5]
    assert not holes(device)


def test_a_hook_that_is_not_there_is_a_hole_for_a_minute() -> None:
    device = Device()
    device.reading(1_000)
    assert device_columns(device.reading(400, seen=0)) == (5, 400, 40_000, 400)
    assert holes(device) == [(1_400, 400)]
    for _ in range(11):
        device.reading(100)
        assert holes(device)
    device.reading(100)
    assert not holes(device)


def test_a_hook_that_never_was_there_is_a_hole_at_the_first_reading() -> None:
    device = Device()
    device.reading(400, seen=0)
    assert holes(device) == [(400, 400)]


def test_what_was_seen_before_anybody_looked_may_be_counted_in_the_first_reading() -> None:
    device = Device()
    device.reading(500, seen=400)  # counters that the hardware brings up to date once a second
    assert not holes(device)
    device = Device()
    device.reading(402, seen=2)
    assert holes(device) == [(402, 398)]


def test_five_in_a_hundred_over_a_minute_are_a_hole_one_is_none() -> None:
    device = Device()
    for _ in range(13):
        device.reading(1_000, seen=950)
    assert holes(device) == [(12_000, 600)]
    device = Device()
    for _ in range(13):
        device.reading(1_000, seen=990)
    assert not holes(device)


def test_what_a_device_keeps_for_itself_is_no_hole() -> None:
    device = Device()
    for _ in range(13):
        device.reading(31, seen=30)
    assert not holes(device)


def test_super_packets_are_fewer_for_the_device_and_hide_no_hole_behind_them() -> None:
    device = Device()
    for _ in range(10):
        device.reading(100, seen=4_500)
    assert not holes(device)
    device.reading(1_000, seen=0)  # a queue could have held these
    assert not holes(device)
    device.reading(1_000, seen=0)
    assert holes(device) == [(3_000, 1_000)]


def test_what_waited_in_a_queue_was_seen_before_it_is_counted() -> None:
    device = Device()
    device.reading(0)
    for _ in range(5):
        device.reading(0, seen=900)
        device.reading(900, seen=0)
    assert not holes(device)


def test_what_is_counted_between_the_two_readings_was_seen_and_is_no_longer_waited_for() -> None:
    device = Device()
    device.reading(1_000)
    device.passes(350)
    device.seen += 50  # passes while the epoch is closed
    counts = iter([device.count, DeviceCount(device.count.packets + 50, device.count.bytes + 5_000)])
    device.devices.follow(lambda: {PLACE: next(counts)})
    device.now += READ_NS
    assert device.close().unseen_packets == 0
    device.count = DeviceCount(device.count.packets + 50, device.count.bytes + 5_000)
    device.devices.follow(lambda: {PLACE: device.count})
    assert device.reading(400, seen=0).unseen_packets == 400


def test_what_passes_between_the_two_readings_of_an_epochs_end_is_nobodys() -> None:
    device = Device()
    device.reading(100)

    def read() -> dict[tuple[str, int], DeviceCount]:
        device.passes(50, seen=0)
        return {PLACE: device.count}

    device.devices.follow(read)
    for _ in range(13):
        device.reading(100)
        device.seen += 50  # of which the second half are seen in the next epoch
    assert not holes(device)


@pytest.mark.parametrize("count", [DeviceCount(7, 700), DeviceCount(7, 10**12), DeviceCount(10**12, 7)])
def test_counters_that_begin_anew_are_never_negative(count: DeviceCount) -> None:
    device = Device()
    device.reading(400)
    device.count = count
    assert device_columns(device.reading(50, seen=50)) == (0, 0, 0, 0)
    assert device_columns(device.reading(50)) == (5, 50, 5_000, 0)
    assert not holes(device)


def test_an_interface_that_was_forgotten_begins_anew() -> None:
    device = Device()
    device.reading(400)
    device.passes(400, seen=0)  # before the hooks of the new one are there
    device.devices.forget("v0")
    assert device_columns(device.reading(0)) == (0, 0, 0, 0)
    device.reading(400)
    assert not holes(device)


def test_a_device_that_could_not_be_read_is_compared_when_it_can() -> None:
    device = Device()
    device.reading(100)
    device.there = False
    assert device_columns(device.reading(100, seen=0)) == (0, 0, 0, 0)
    device.there = True
    assert device_columns(device.reading(100)) == (10, 200, 20_000, 100)


def test_both_passages_are_one_of_the_device() -> None:
    devices = Devices(lambda: 0)
    count = DeviceCount(0, 0)
    devices.follow(lambda: {PLACE: count, ("v0", EGRESS): count})

    def close(epoch: int) -> Any:
        devices._due_ns = 0
        devices.before()
        devices.after()
        rows = [
            counters(interface="v0", direction=direction, primary=primary, seen_packets=10)
            for direction in (INGRESS, EGRESS)
            for primary in (False, True)
        ]
        return [(row.device_packets, row.unseen_packets) for row in devices.compare(epoch, rows, 0, 0)]

    assert close(1) == [(0, 0)] * 4
    count = DeviceCount(20, 2_000)
    assert close(2) == [(0, 0), (20, 0)] * 2


def test_a_device_without_a_hook_has_a_row_of_its_own() -> None:
    devices, now = Devices(lambda: now), READ_NS
    count = DeviceCount(0, 0)
    devices.follow(lambda: {PLACE: count})
    for epoch in (1, 2):
        devices.before()
        devices.after()
        rows = devices.compare(epoch, [], 7, 8)
        now, count = now + READ_NS, DeviceCount(400, 40_000)
    wanted = {"device_epochs": 1, "device_packets": 400, "device_bytes": 40_000, "unseen_packets": 400}
    assert rows == [counters(epoch=2, start_ns=7, end_ns=8, interface="v0", **wanted)]


def test_what_has_gone_is_forgotten() -> None:
    device = Device()
    device.reading(10)
    device.there = False
    device.reading()
    assert device.devices._compared
    device.reading()
    assert not device.devices._compared
