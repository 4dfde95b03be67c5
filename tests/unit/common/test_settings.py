import runpy
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from common.errors import SettingsError
from common.settings import environment_name, load, parse_assignment, setting_names
from common.settings.clickhouse import most_retention_days

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in setting_names():
        monkeypatch.delenv(environment_name(name), raising=False)


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "ayaflow.yaml"
    path.write_text(text)
    return path


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config(tmp_path, "streams: {window_seconds: 1, live_top: 1}\nkafka: {partitions: 1}\n")
    monkeypatch.setenv("AYAFLOW_STREAMS_WINDOW_SECONDS", "2")
    monkeypatch.setenv("AYAFLOW_STREAMS_LIVE_TOP", "2")
    settings = load(path, {"streams.window_seconds": 3, "node": None})
    assert (settings.streams.window_seconds, settings.streams.live_top, settings.kafka.partitions) == (3, 2, 1)


def test_the_file_may_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AYAFLOW_CONFIG", str(config(tmp_path, "node: from-file\n")))
    assert load().node == "from-file"


def test_lists_and_mappings_may_be_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AYAFLOW_CAPTURE_INTERFACES", "eth0, eth1")
    settings = load(None, {"kafka.properties": "{security.protocol: ssl}"})
    assert settings.capture.interfaces == ["eth0", "eth1"]
    assert settings.kafka.properties == {"security.protocol": "ssl"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "kafka: {bootstrap_server: x}",
            "kafka.bootstrap_server is not a setting; did you mean kafka.bootstrap_servers?",
        ),
        ("kafak: {partitions: 1}", "kafak is not a setting; did you mean kafka?"),
        ("window_seconds: 5", "did you mean streams.window_seconds?"),
        ("kafka: 5", "kafka is a section"),
        ("kafka: {partitions: many}", "kafka.partitions: "),
        ("streams: {window_seconds: 3601}", "streams.window_seconds: "),
        ("producer: {encoding: json}", "producer.encoding: "),
        ("- 1", "must be a mapping"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_mistake_in_the_file_is_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(config(tmp_path, text))
    assert message in str(error.value)


def test_a_mistyped_variable_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AYAFLOW_KAFKA_PARTITION", "3")
    with pytest.raises(SettingsError, match="did you mean AYAFLOW_KAFKA_PARTITIONS"):
        load()


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read the settings file .*No such file"):
        load(tmp_path / "none.yaml")


def test_an_assignment_names_a_known_setting() -> None:
    assert parse_assignment("kafka.partitions=3") == ("kafka.partitions", "3")
    with pytest.raises(SettingsError, match=r"section\.key=value"):
        parse_assignment("kafka.partitions")
    with pytest.raises(SettingsError, match=r"did you mean kafka\.partitions"):
        parse_assignment("kafka.partition=3")


def test_the_documentation_is_that_of_the_settings() -> None:
    made = runpy.run_path(str(DOCS / "make_configuration.py"))["page"]()
    assert (DOCS / "configuration.md").read_text() == made, "run: make docs"


@pytest.mark.parametrize("name", ["clickhouse.flows_retention_days", "clickhouse.rollup_retention_days"])
def test_a_retention_that_ends_behind_clickhouses_time_is_refused(name: str) -> None:
    most = most_retention_days(datetime.now(UTC))
    load(flags={name: str(most), "clickhouse.rollup_retention_days": str(most)})
    with pytest.raises(SettingsError, match=rf"{name}: .*at most {most} days: ClickHouse's times end in 2106"):
        load(flags={name: str(most + 1)})


def test_a_cap_in_other_units_than_bytes_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"max_bytes: .*bytes, and at least 1,000,000"):
        load(flags={"clickhouse.max_bytes": "500"})
    assert load(flags={"clickhouse.max_bytes": "0"}).clickhouse.max_bytes == 0


def test_rollups_and_ledger_are_kept_for_as_long_as_what_they_are_about() -> None:
    longer = {"clickhouse.flows_retention_days": "1000"}
    with pytest.raises(
        SettingsError, match=r"rollup_retention_days \(730\) is shorter than flows_retention_days \(1000\)"
    ):
        load(flags=longer)
    assert load(flags={**longer, "clickhouse.rollup_retention_days": "1000"}).clickhouse.flows_retention_days == 1000


def test_what_is_kept_for_the_longest_time_ends_a_year_before_clickhouses_time() -> None:
    now = datetime(2026, 11, 27, tzinfo=UTC)
    last_seconds = (now + timedelta(days=most_retention_days(now) + 366)).timestamp()
    assert 2**32 - 2 * 86_400 < last_seconds < 2**32


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kafka.packets_retention_hours", "inf"),
        ("kafka.packets_retention_hours", "1e12"),
        ("kafka.packets_retention_bytes", str(2**63)),
        ("streams.node_timeout_seconds", "inf"),
    ],
)
def test_what_kafka_could_not_be_told_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load(flags={name: value})
