"""Of several hosts of ClickHouse one may die: what is inserted and asked goes to the next. Two real servers.

The embedded engine is no cluster (it keeps replicated tables read-only), so each host here has tables of its own: what
was stored before the first one died is in that one, all else in the other.
"""

import contextlib
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from common.clickhouse import connect
from common.errors import ServiceUnavailable
from common.settings import ClickHouseSettings, Settings
from console.health import Verdict, questions
from console.store.client import Store
from streams.partition.storing import KafkaPartition, WindowId
from streams.store.clickhouse import ClickHouseStore
from tests import cluster
from tests.fix_local import WRITER, running_clickhouse, temporary_directory
from tests.unit.streams.store_contract import CONTRACT, START, flows

pytestmark = pytest.mark.clickhouse

PARTITION = KafkaPartition(5, 2)
ROWS = 3  # of a window


@pytest.fixture
def first() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The host that dies."""
    with temporary_directory() as directory, running_clickhouse(directory) as server:
        yield server


@pytest.fixture
def second(clickhouse_server: str) -> Iterator[ClickHouseSettings]:
    made = ClickHouseSettings(url=clickhouse_server, **WRITER, database=f"ayaflow_h_{uuid.uuid4().hex}")
    yield made
    with contextlib.closing(connect(made, database="default", timeout_seconds=60)) as client:
        client.command(f"DROP DATABASE IF EXISTS {made.database} SYNC")


def window(number: int) -> WindowId:
    return WindowId(START + 10 * number, 10)


def health(settings: ClickHouseSettings) -> Verdict:
    asked = Settings(clickhouse=settings.model_copy(update={"cluster": "main"}))
    (question,) = (one for one in questions(asked) if one.stage == "clickhouse")
    return question.ask()


def test_when_a_host_dies_the_next_one_is_asked(
    first: tuple[str, subprocess.Popen[str]], second: ClickHouseSettings
) -> None:
    url, process = first
    both = second.model_copy(update={"url": f"{url},{second.url}"})  # unchecked: that is refused without a cluster
    store = ClickHouseStore(both, "packets")
    store.check()
    for number in range(5):
        store.insert(flows(1, window(number), rows=ROWS), PARTITION, 0, number)
    with pytest.raises(ServiceUnavailable, match="has no ayaflow tables"):
        Store(second)  # nobody was there
    with Store(both) as here:
        assert here.select("SELECT count() AS n FROM flows") == [{"n": 5 * ROWS}]
        process.kill()
        process.wait()
        with pytest.raises(ServiceUnavailable, match=f"ClickHouse at {url} did not do its work"):
            store.insert(flows(1, window(5), rows=ROWS), PARTITION, 0, 5)
        for number in range(5, 12):  # what is tried again is asked of the next host
            store.insert(flows(1, window(number), rows=ROWS), PARTITION, 0, number)
        # a reader notices nothing
        assert here.select("SELECT count() AS n FROM flows") == [{"n": 7 * ROWS}]
        assert here.document("SELECT sum(records) AS n FROM services_1m")["data"] == [[7 * ROWS]]
    verdict = health(both)
    assert verdict.ok
    (warning,) = verdict.warnings
    assert warning == f"ClickHouse at {url} does not answer (connection refused)"
    # of none of them
    gone = second.model_copy(update={"url": f"{url},{url}"})
    assert "does not answer" in health(gone).message
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        Store(gone)
    store.close()


def test_a_host_whose_tables_are_complete_is_only_read(second: ClickHouseSettings) -> None:
    """What is run ON CLUSTER would wait for hosts that are down: here who connects may only read."""
    reader = second.model_copy(update={"username": "default", "password": ""})
    store = ClickHouseStore(reader, "packets")
    with pytest.raises(ServiceUnavailable):
        store.check()  # there is nothing, and it may make nothing
    made = ClickHouseStore(second, "packets")
    made.check()
    made.close()
    store.check()
    store.close()


@pytest.mark.wide
def test_what_is_asked_of_a_cluster_is_asked_of_one_server(
    clickhouse_server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m tests.cluster` of docs/scaling.md."""
    monkeypatch.setenv("AYAFLOW_CLICKHOUSE_URL", clickhouse_server)
    for name, value in WRITER.items():
        monkeypatch.setenv(f"AYAFLOW_CLICKHOUSE_{name.upper()}", value)
    assert cluster.main() == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(" ")[0] for line in said[-2:]] == [str(len(CONTRACT)), "20"]
    with Store(ClickHouseSettings(url=clickhouse_server, **WRITER, database="default")) as store:
        assert store.select("SHOW DATABASES LIKE 'ayaflow_try_%'") == []
