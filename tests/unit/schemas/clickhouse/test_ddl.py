import re

from common.settings import ClickHouseSettings
from schemas.clickhouse.ddl import migrations, packets_sql
from schemas.clickhouse.horizon import stored_tables
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


def test_each_migration_says_what_it_creates() -> None:
    for migration in [*migrations(ONE), *migrations(CLUSTER)]:
        assert len(migration.makes) == sum(one.startswith("CREATE ") for one in migration.statements), migration.name


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


SHARDED = {
    "flows": "kafka_partition",
    **dict.fromkeys(ROLLUPS, "rand()"),
    "names": "kafka_partition",
    "names_ledger": "kafka_partition",
    "ledger": "cityHash64(node)",
    "losses": "kafka_partition",
    "dropped": "cityHash64(table, day)",
    "refused": "kafka_partition",
    "rewindows": "cityHash64(id)",
    "rewindow_progress": "cityHash64(id)",
    "rewindowed": "kafka_partition",
    "packets": "kafka_partition",
}
"""The tables of a cluster, and which shard a row goes to. Inserts that have names go by the partition of Kafka: one
that is repeated meets the first. What is added up in one insert, the epochs of a node, is in one shard."""


def test_each_table_of_a_cluster_stores_behind_a_distributed_one_and_rows_that_meet_are_in_one_shard() -> None:
    made = [*statements(CLUSTER), *packets_sql(CLUSTER, 60)]
    joined = "\n".join(made)
    stored = dict(re.findall(r"CREATE TABLE IF NOT EXISTS net\.(\w+)_local .*?\nENGINE = (\w+)", joined, re.DOTALL))
    assert stored.keys() == SHARDED.keys()
    assert all(engine.startswith("Replicated") for engine in stored.values())
    distributed = re.findall(
        r"CREATE TABLE IF NOT EXISTS net\.(\w+) ON CLUSTER 'main' AS net\.(\w+)\s+"
        r"ENGINE = Distributed\('main', 'net', '(\w+)', (.+)\)",
        joined,
    )
    assert {name: key for name, *_, key in distributed} == SHARDED
    assert all(like == table == f"{name}_local" for name, like, table, _ in distributed)


def test_on_a_cluster_rollups_are_filled_within_a_server_and_views_ask_all() -> None:
    fills = [one for one in statements(CLUSTER) if " MATERIALIZED VIEW " in one]
    assert len(fills) == len(ROLLUPS)
    for fill in fills:
        (view,) = re.findall(r"net\.(\w+)_mv", fill)
        assert {*re.findall(r"(?:TO|FROM) net\.(\w+)", fill)} == {"flows_local", f"{view}_local"}
    views = [one for one in statements(CLUSTER) if re.match(r"CREATE VIEW ", one)]
    assert len(views) >= 9
    assert not [one for one in views if "_local" in one]


def test_tables_whose_inserts_have_names_know_them_on_a_cluster_too() -> None:
    made = "\n".join(statements(CLUSTER))
    assert "non_replicated_deduplication_window" not in made
    for table in stored_tables("main"):
        assert re.search(
            rf"net\.{table} .*?SETTINGS [^;]*?\breplicated_deduplication_window = \d{{6}}", made, re.DOTALL
        ), table
