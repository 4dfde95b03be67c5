"""How often is looked, and how early a day goes."""

from datetime import date, timedelta

import pytest
from prometheus_client import CollectorRegistry

from streams import metrics
from streams.disk.keeper import Keeper
from streams.disk.plan import Day, Drop, Limits, Piece, Seen, Why

TODAY = date(2026, 11, 28)
MB = 10**6
RETENTION = {"flows_retention_days": 90, "names_retention_days": 30, "rollup_retention_days": 730}


class Disk:
    """Days of flows that grow while time goes by, and take a while to go."""

    def __init__(self, rate: float, drop_seconds: float) -> None:
        self.now, self.used = 0.0, 0
        self.most = 0
        self._rate, self._drop_seconds, self._days = rate, drop_seconds, [0.0] * 200

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self._days[int(self.now // 30)] += self._rate * seconds
        self.most = max(self.most, int(sum(self._days)))

    def seen(self) -> Seen:
        pieces = tuple(
            Piece(host="a", table="flows", day=TODAY - timedelta(days=200 - age), rows=1, bytes=int(size))
            for age, size in enumerate(self._days)
            if size
        )
        return Seen(today=TODAY, pieces=pieces, rooms=())

    def unfinished(self) -> list[Drop]:
        return []

    def go(self, what: Day, why: Why, ms: int) -> int:
        self.wait(self._drop_seconds)
        self._days[200 - (TODAY - what.day).days] = 0
        return 1

    def go_on(self, drop: Drop) -> int:
        raise NotImplementedError

    def close(self) -> None:
        pass


def keeper(disk: Disk, cap: float) -> Keeper:
    return Keeper(disk, Limits(cap=int(cap)), RETENTION, metrics.create(CollectorRegistry()), lambda: disk.now)


@pytest.mark.parametrize(("rate", "drop_seconds"), [(0.1 * MB, 0.1), (1 * MB, 2), (5 * MB, 1)])
def test_the_cap_holds_however_fast_it_grows_and_however_long_a_day_takes_to_go(
    rate: float, drop_seconds: float
) -> None:
    disk, cap = Disk(rate, drop_seconds), rate * 100  # three days and a third
    looks = keeper(disk, cap)
    assert looks.pause() == 5
    while disk.now < 1_000:
        looks.look()
        disk.wait(looks.pause())
    assert 0.6 * cap < disk.most <= cap


def test_where_there_is_much_room_it_is_looked_at_now_and_then() -> None:
    disk = Disk(MB, 1)
    looks = keeper(disk, 1_000 * MB)
    for _ in range(4):
        looks.look()
        assert looks.pause() == 5
        disk.wait(5)
