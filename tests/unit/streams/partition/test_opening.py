import pytest

from streams.partition.opening import (
    AskTable,
    Begin,
    Lost,
    Read,
    Reopen,
    follow,
    open_at,
    passed_over,
    read_after,
    unseen,
)

TOPIC = 77


def begin(committed: int, oldest: int = 0, topic_id: int = TOPIC, *, ours: bool = True) -> Begin:
    return Begin(committed, oldest, topic_id, ours)


def test_a_partition_is_opened_where_the_group_ended() -> None:
    assert open_at(40, begin(40, oldest=10)) == Read(None)


def test_a_new_topic_is_read_from_its_beginning() -> None:
    assert open_at(0, begin(0)) == Read(None)


def test_what_was_removed_since_the_group_ended_is_lost() -> None:
    assert open_at(50, begin(40, oldest=50)) == Read(Lost(40, 50))
    assert open_at(50, begin(0, oldest=50)) == Read(Lost(0, 50))


def test_a_message_that_is_read_again_loses_nothing_behind_it() -> None:
    assert open_at(30, begin(40, oldest=10)) == Read(None)
    assert open_at(42, begin(40, oldest=50)) == Read(Lost(40, 42))  # it was fetched before the others were removed


@pytest.mark.parametrize(("awaited", "oldest"), [(40, 0), (40, 10), (10, 40), (-1, 40)])
def test_kafka_is_asked_what_lies_before_a_message_that_is_not_the_next(awaited: int, oldest: int) -> None:
    assert unseen(awaited, 42, begin(-1, oldest)) == 40
    assert unseen(awaited, 40, begin(-1, oldest)) is None
    assert unseen(awaited, 39, begin(-1, oldest)) is None


def test_a_message_that_kafka_has_and_did_not_come_is_a_reason_to_begin_again() -> None:
    assert passed_over(3, 40, 42) == "message 40 of partition 3 did not come, and 42 did; start again"
    assert passed_over(3, 41, 42) is not None
    assert passed_over(3, 42, 42) is None  # between the two are marks of transactions
    assert passed_over(3, None, 42) is None  # it was removed since it came


def test_when_kafka_forgot_the_group_the_table_is_asked() -> None:
    assert open_at(50, begin(-1, oldest=50)) == AskTable()
    assert read_after(40, 50, begin(-1, oldest=50)) == Read(Lost(40, 50))
    assert read_after(50, 50, begin(-1, oldest=50)) == Read(None)
    assert read_after(60, 50, begin(-1, oldest=50)) == Read(None)


def test_what_was_removed_before_the_first_time_is_no_loss() -> None:
    assert read_after(0, 50, begin(-1, oldest=50)) == Read(None)


def test_when_somebody_set_the_groups_offset_the_table_is_asked() -> None:
    moved = begin(50, oldest=10, ours=False)
    assert open_at(50, moved) == AskTable()
    assert read_after(40, 50, moved) == Read(Lost(40, 50, moved=True))
    assert read_after(40, 55, moved) == Read(Lost(40, 50, moved=True))  # between the two are marks of transactions
    assert read_after(50, 50, moved) == Read(None)
    assert read_after(60, 50, moved) == Read(None)  # it was moved back
    assert read_after(0, 50, moved) == Read(None)  # before the first time
    assert read_after(40, 60, begin(50, oldest=60, ours=False)) == Read(Lost(40, 60, moved=True))
    assert read_after(0, 60, begin(50, oldest=60, ours=False)) == Read(Lost(50, 60))


def test_messages_removed_from_an_open_partition_are_lost() -> None:
    assert follow(40, TOPIC, 50, begin(30, oldest=50)) == Read(Lost(40, 50))
    assert follow(40, TOPIC, 50, begin(30, oldest=60)) == Read(Lost(40, 50))  # and more since it was fetched


def test_offsets_that_kafka_never_gave_to_a_message_are_no_loss() -> None:
    assert follow(40, TOPIC, 41, begin(30, oldest=20)) == Read(None)


def test_a_message_from_before_is_read_again() -> None:
    assert follow(40, TOPIC, 39, begin(30)) == Reopen()


def test_a_topic_that_was_made_anew_is_opened_afresh() -> None:
    assert follow(40, TOPIC, 50, begin(-1, topic_id=TOPIC + 1)) == Reopen()
