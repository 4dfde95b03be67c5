"""Our topics, and whose time their messages carry."""

import pytest

from common.settings import KafkaSettings
from schemas.topics import AHEAD_MS, DAY_MS, TopicNames, topics

NOW_MS = 1_800_000_000_000
TOPICS = {each.name: each for each in topics(KafkaSettings(topic_prefix="t."))}
NAMES = TopicNames.of("t.")


def test_what_comes_from_nodes_and_strangers_goes_by_the_brokers_clock_and_what_streams_sends_by_the_events() -> None:
    assert {name.removeprefix("t."): each.config["message.timestamp.type"] for name, each in TOPICS.items()} == {
        "packets": "LogAppendTime",
        "packet-events": "LogAppendTime",
        "names": "LogAppendTime",
        "dead-letter": "LogAppendTime",
        "flows": "CreateTime",
        "live": "CreateTime",
    }


@pytest.mark.parametrize(
    ("event_ms", "stamp_ms"),
    [
        (NOW_MS - 12_000, NOW_MS - 12_000),
        (NOW_MS - 7 * DAY_MS // 2, NOW_MS - 7 * DAY_MS // 2),
        (NOW_MS - 7 * DAY_MS // 2 - 1, NOW_MS),  # it would be gone in less than half the retention
        (1_262_304_000_000, NOW_MS),  # 2010
        (0, NOW_MS),
        (NOW_MS + AHEAD_MS, NOW_MS + AHEAD_MS),
        (NOW_MS + AHEAD_MS + 1, NOW_MS),
        (NOW_MS + 365 * DAY_MS, NOW_MS),
    ],
)
def test_an_event_time_that_kafka_would_remove_soon_or_late_is_not_taken(event_ms: int, stamp_ms: int) -> None:
    assert TOPICS[NAMES.flows].stamp_ms(event_ms, NOW_MS) == stamp_ms
