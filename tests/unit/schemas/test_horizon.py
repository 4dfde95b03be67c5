from common.settings import KafkaSettings, StreamsSettings
from schemas.clickhouse.horizon import Horizon, shorter, stored_tables
from schemas.clickhouse.rollups import ROLLUPS

DEFAULTS = {"non_replicated_deduplication_window": 0, "replicated_deduplication_window": 10_000}
WANTED = Horizon(inserts=100_000, seconds=86_400)


def test_the_horizon_is_the_retention_of_the_packets() -> None:
    horizon = Horizon.of(KafkaSettings(packets_retention_hours=48.0, partitions=20), StreamsSettings(window_seconds=1))
    assert (horizon.inserts, horizon.seconds) == (2 * 20 * 48 * 3600, 48 * 3600)
    assert Horizon.of(KafkaSettings(), StreamsSettings()) == WANTED


def test_of_a_plain_table_only_the_count_matters() -> None:
    full = "MergeTree ORDER BY a SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = {}"
    assert shorter(WANTED, [("flows", "MergeTree", full.format(100_000))], DEFAULTS) == {}
    assert shorter(WANTED, [("flows", "MergeTree", full.format(99_999))], DEFAULTS) == {
        "flows": {"non_replicated_deduplication_window": 99_999}
    }
    assert shorter(WANTED, [("flows", "MergeTree", "MergeTree ORDER BY a")], DEFAULTS) == {
        "flows": {"non_replicated_deduplication_window": 0}
    }


def test_of_a_replicated_table_count_and_age_matter() -> None:
    full = (
        "ReplicatedMergeTree('/x', 'r') ORDER BY a SETTINGS replicated_deduplication_window = 100000, "
        "replicated_deduplication_window_seconds = '86400'"
    )
    assert shorter(WANTED, [("flows_local", "ReplicatedMergeTree", full)], DEFAULTS) == {}
    server = DEFAULTS | {"replicated_deduplication_window_seconds": 3600}
    assert shorter(WANTED, [("flows_local", "ReplicatedMergeTree", "ReplicatedMergeTree")], server) == {
        "flows_local": {"replicated_deduplication_window": 10_000, "replicated_deduplication_window_seconds": 3600}
    }


def test_on_a_cluster_the_rows_are_in_the_local_tables() -> None:
    assert stored_tables(None) == ("flows", *ROLLUPS, "names", "names_ledger")
    assert stored_tables("c")[:2] == ("flows_local", "services_1m_local")
