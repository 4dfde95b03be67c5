import re

from common.settings import ClickHouseSettings
from schemas.clickhouse.ddl import migrations
from schemas.clickhouse.rollups import ROLLUPS

ONE = ClickHouseSettings()
CLUSTER = ClickHouseSettings(cluster="main", database="net")


def statements(settings: ClickHouseSettings) -> list[str]:
    return [statement for migration in migrations(settings) for statement in migration.statements]


def test_numbers_count_up_without_a_gap() -> None:
    numbers = [migration.number for migration in migrations(CLUSTER)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {migration.number for migration in migrations(ONE)} < set(numbers)  # those of a cluster are left out


def test_every_statement_can_be_run_again() -> None:
    for statement in statements(ONE) + statements(CLUSTER):
        if statement.startswith("ALTER TABLE "):
            changes = re.split(r",\n(?=    [A-Z])", statement.split("\n", 1)[1])
            again = (
                r"\s*(ADD (COLUMN|INDEX) IF NOT EXISTS|MATERIALIZE INDEX|"
                r"MODIFY COLUMN \w+ (CODEC|MODIFY SETTING|Enum8|U?Int\d+|String ALIAS))\b"
            )
            assert all(re.match(again, change) for change in changes), statement
        else:
            assert re.match(r"CREATE (TABLE|VIEW|MATERIALIZED VIEW) IF NOT EXISTS ", statement), statement


def test_no_placeholder_is_left() -> None:
    for statement in statements(ONE) + statements(CLUSTER):
        rendered = re.sub(r"\{(since|until|addr|prefix):[\w()']+\}", "", statement)  # parameters of views
        assert not re.search(r"[{}]|--", rendered), statement


def test_one_server_has_plain_tables() -> None:
    joined = "\n".join(statements(ONE))
    assert "CREATE TABLE IF NOT EXISTS ayaflow.flows \n" in joined
    assert not re.search("Replicated|Distributed|_local|ON CLUSTER", joined)


def test_a_cluster_has_replicated_tables_behind_distributed_ones() -> None:
    rendered = statements(CLUSTER)
    assert all("ON CLUSTER 'main'" in statement for statement in rendered)
    engines = re.findall(r"ENGINE = (\w+)", "\n".join(rendered))
    assert set(engines) == {
        "ReplicatedMergeTree",
        "ReplicatedAggregatingMergeTree",
        "ReplicatedReplacingMergeTree",
        "Distributed",
    }
    assert any("Distributed('main', 'net', 'flows_local'" in statement for statement in rendered)


def test_what_flows_fill_has_a_partition_a_day() -> None:
    tables = [one for one in statements(ONE) if re.search(r"TABLE IF NOT EXISTS ayaflow\.(flows|\w+_1[mhd])\s", one)]
    assert [re.findall(r"PARTITION BY toDate\((window_begin|time)\)", one) for one in tables] == [
        ["window_begin"],
        *([["time"]] * len(ROLLUPS)),
    ]
