"""Which day goes first, and when."""

from dataclasses import replace
from datetime import date, timedelta

from streams.disk.plan import Growth, Limits, Piece, Plan, Room, Seen, Why, announcement, plan

TODAY = date(2026, 11, 28)
RETENTION = {"flows_retention_days": 90, "names_retention_days": 30, "rollup_retention_days": 730}
GB = 10**9


def piece(table: str, age: int | None, size: int = GB, host: str = "a") -> Piece:
    day = None if age is None else TODAY - timedelta(days=age)
    return Piece(host=host, table=table, day=day, rows=size // 20, bytes=size)


def seen(*pieces: Piece, free: int = 500 * GB, total: int = 1000 * GB, going: int = 0) -> Seen:
    return Seen(today=TODAY, pieces=pieces, rooms=(Room(host="a", free=free, total=total, going=going),))


def first(found: Plan) -> tuple[str, int] | None:
    return (found.next.table, (TODAY - found.next.day).days) if found.next else None


def test_the_day_goes_that_has_used_up_most_of_its_retention() -> None:
    pieces = [piece("flows", 30), piece("flows_1h", 300), piece("flows", 45), piece("services_1m", 60)]
    expected = [("flows", 45), ("flows_1h", 300), ("flows", 30), ("services_1m", 60)]
    while pieces:
        found = plan(seen(*pieces), Limits(cap=GB // 2), RETENTION)
        assert (found.why, first(found)) == (Why.CAP, expected.pop(0))
        assert found.next is not None
        pieces = [each for each in pieces if (each.table, each.day) != (found.next.table, found.next.day)]
    assert not expected


def test_of_one_day_the_accounts_go_last() -> None:
    same = dict.fromkeys(RETENTION, 90)
    found = plan(seen(piece("ledger", 9), piece("services_1m", 9), piece("flows", 9)), Limits(cap=1), same)
    assert first(found) == ("flows", 9)


def test_today_stays_and_so_does_what_comes_from_the_future_and_what_has_no_days() -> None:
    found = plan(seen(piece("flows", 0), piece("flows", -400), piece("losses", None)), Limits(cap=1), RETENTION)
    assert (found.next, found.why, found.near) == (None, Why.CAP, True)
    (said,) = announcement(found, Limits(cap=1), None)
    assert said.endswith("there is no day before today that could go: raise it, or shorten what is kept")


def test_room_is_kept_for_what_comes_until_the_next_look() -> None:
    used, limits = seen(piece("flows", 3, 80)), Limits(cap=100, reserve=0)
    assert plan(used, limits, RETENTION, coming=20).why is None
    assert plan(used, limits, RETENTION, coming=21).why is Why.CAP


def test_the_fullest_server_of_a_cluster_decides() -> None:
    pieces = (piece("flows", 3, 30, "a"), piece("flows", 3, 70, "b"), piece("flows", 2, 40, "b"))
    assert plan(seen(*pieces), Limits(cap=111, reserve=0), RETENTION).why is None
    found = plan(seen(*pieces), Limits(cap=109, reserve=0), RETENTION)
    assert (found.used, found.why) == (110, Why.CAP)
    assert found.next is not None
    assert found.next.bytes == 100  # on all servers


def test_a_disk_keeps_a_gib_free_or_a_twentieth_and_what_is_going_counts_as_free() -> None:
    for total, reserved in ((200 << 20, 10 << 20), (1 << 40, 1 << 30)):
        for free, why in ((reserved, None), (reserved - 1, Why.DISK)):
            found = plan(seen(piece("flows", 3), free=free, total=total), Limits(), RETENTION)
            assert (found.why, found.near) == (why, True)
        assert plan(seen(piece("flows", 3), free=1, total=total, going=reserved), Limits(), RETENTION).why is None
        assert plan(seen(piece("flows", 3), free=0, total=total), Limits(reserve=0), RETENTION).left is None


def test_what_goes_next_is_said_from_nine_tenths_on() -> None:
    limits = Limits(cap=100 * GB, reserve=0)
    for size, expected in ((89 * GB, []), (90 * GB, ["about 3 hours"])):
        found = plan(seen(piece("flows", 7, size)), limits, RETENTION)
        said = [*announcement(found, limits, GB / 1080)]
        assert [text for text in expected if f"2026-11-21 of flows goes next, in {text}" in said[0]] == expected
        assert len(said) == len(expected)


def test_the_rate_is_of_what_came_also_while_days_go() -> None:
    assert Growth().rate is None
    growth = Growth()
    for second, used in ((0, 100), (10, 200), (20, 150), (30, 250)):
        if second == 20:
            growth.went(150)
        growth.look(second, used)
    assert growth.rate == growth.rate_now == 10
    growth.look(5000, 249)  # merges took more than came; all before is forgotten
    growth.look(5010, 100)
    assert growth.rate == 0


def test_no_day_goes_for_a_reserve_that_the_disk_cannot_have() -> None:
    """Of a disk of 1,000 GB, 500 are free and two are ours."""
    disk = seen(piece("flows", 3), piece("flows", 0))
    found = plan(disk, Limits(reserve=502 * GB), RETENTION)
    assert (found.why, found.in_vain) == (Why.DISK, False)
    wrong = Limits(reserve=503 * GB)
    found = plan(disk, wrong, RETENTION)
    assert (found.why, found.in_vain, found.left) == (None, True, 500 * GB - (1 << 30))
    (said,) = announcement(found, wrong, None)
    assert said.startswith("clickhouse.reserve_bytes (503,000,000,000) is more than ClickHouse's disk could have free")
    full = seen(piece("flows", 3), free=GB, total=1000 * GB)
    assert plan(full, wrong, RETENTION).why is Why.DISK  # what is usual


def test_what_helps_hangs_on_the_limit() -> None:
    found = plan(seen(piece("flows", 0), free=GB), Limits(), RETENTION)
    (said,) = announcement(found, Limits(), None)
    assert said.endswith("no day before today that could go: make room there, lower it, or shorten what is kept")


def test_a_day_that_is_held_keeps_none_but_itself() -> None:
    held = frozenset({TODAY - timedelta(days=5), TODAY})
    disk = replace(seen(piece("flows", 5), piece("services_1m", 5), piece("flows", 3)), held=held)
    found = plan(disk, Limits(cap=1), RETENTION)
    assert (first(found), found.why) == (("flows", 3), Why.CAP)
    told, next_ = announcement(found, Limits(cap=1), None)
    assert told.startswith("2026-11-23: held by ayaflow repair or rewindow")
    assert "the day 2026-11-25 of flows goes next" in next_
