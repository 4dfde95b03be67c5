"""Which tables keep their rows for another time than the settings say."""

import pytest

from common.settings import ClickHouseSettings
from schemas.clickhouse.retention import changes

ENGINE = "MergeTree PARTITION BY toDate(x) ORDER BY x TTL {ttl} SETTINGS ttl_only_drop_parts = 1"
WANTED = {"flows_retention_days": 90, "names_retention_days": 30, "rollup_retention_days": 730}


def found(*tables: tuple[str, str], cluster: str | None = None) -> list[tuple[str, ...]]:
    layout = ClickHouseSettings(cluster=cluster)
    made = [(name, ENGINE.format(ttl=ttl)) for name, ttl in tables]
    return [each.statements("db", layout.on_cluster) for each in changes(layout, made, WANTED)]


def test_the_days_of_tables_of_ours_are_those_of_the_settings() -> None:
    assert (
        found(("flows", "window_begin + toIntervalDay(90)"), ("ledger", "toDateTime(end_time) + toIntervalDay(730)"))
        == []
    )
    assert found(
        ("losses", "toDateTime(time) + toIntervalDay(7)"), ("operator_x", "window_begin + toIntervalDay(7)")
    ) == [
        (
            "ALTER TABLE db.losses MODIFY SETTING materialize_ttl_recalculate_only = 1",
            "ALTER TABLE db.losses MODIFY TTL toDateTime(time) + INTERVAL 730 DAY",
        ),
        (
            "ALTER TABLE db.operator_x MODIFY SETTING materialize_ttl_recalculate_only = 1",
            "ALTER TABLE db.operator_x MODIFY TTL window_begin + INTERVAL 730 DAY",
        ),
    ]


def test_of_a_cluster_they_are_the_tables_that_have_the_rows() -> None:
    ((_, statement),) = found(("names_local", "received + toIntervalDay(7)"), cluster="c")
    assert statement == "ALTER TABLE db.names_local ON CLUSTER 'c' MODIFY TTL received + INTERVAL 30 DAY"


@pytest.mark.parametrize(
    ("table", "ttl"),
    [
        ("incident", "window_begin + toIntervalDay(7)"),  # not ours
        ("flows", "window_begin + toIntervalDay(7) TO VOLUME 'cold', window_begin + toIntervalDay(90)"),
        ("flows", "window_begin + toIntervalDay(7) WHERE protocol = 17"),
        ("flows", "window_begin + toIntervalMonth(7)"),
    ],
)
def test_what_is_somebody_elses_is_left_alone(table: str, ttl: str) -> None:
    assert found((table, ttl)) == []
