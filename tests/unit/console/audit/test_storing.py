"""What a partition of the packets topic may hold, and for how long."""

import pytest

from common.backlog import PartitionBacklog
from console.audit.storing import ANCHOR_SECONDS, judge, sentence
from streams.partition.rings import ANCHOR_SECONDS as RINGS_ANCHOR_SECONDS

NOW = 1_800_000_000.0


def partition(number: int, *, committed: int, age: float | None, end: int = 100) -> PartitionBacklog:
    return PartitionBacklog(
        partition=number,
        begin=0,
        committed=committed,
        first=max(0, committed),
        end=end,
        oldest_unix_s=None if age is None else NOW - age,
        read=True,
    )


def test_the_last_message_of_a_silent_node_may_wait_as_long_as_streams_keeps_it() -> None:
    assert ANCHOR_SECONDS == RINGS_ANCHOR_SECONDS


@pytest.mark.parametrize(
    ("committed", "age", "late"),
    [(100, None, False), (90, 80, False), (90, 680, False), (90, 680.1, True), (-1, 80, False), (-1, 80.1, True)],
)
def test_a_partition_stands_still_when_its_oldest_message_is_too_old(
    committed: int, age: float | None, late: bool
) -> None:
    (waiting,) = judge([partition(3, committed=committed, age=age)], now=NOW, patience_seconds=80)
    assert waiting.late is late


def test_those_that_stand_still_are_named_and_whether_somebody_has_read_them() -> None:
    waiting = judge(
        [
            partition(1, committed=100, age=None),
            partition(2, committed=60, age=3600),
            *(partition(number, committed=-1, age=3600) for number in range(3, 9)),
        ],
        now=NOW,
        patience_seconds=80,
    )
    said = sentence(waiting, "packets")
    assert said.startswith(
        "partition 2 of packets has 40 messages that streams has not stored, the oldest from 2027-01-15T07:00:00Z; "
        "partition 3 of packets has 100 messages that nobody has read, the oldest from"
    )
    assert said.endswith("; and 2 more")
    assert sentence(waiting[:1], "packets") == ""
    assert waiting[1].told(NOW) == {
        "partition": 2,
        "messages": 40,
        "oldest_age_seconds": 3600.0,
        "read": True,
        "slow": True,
        "late": True,
    }
