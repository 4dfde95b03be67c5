"""`ayaflow rewindows`: what was begun is listed, and given up where nobody wants its end."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from common.errors import AyaflowError
from common.settings import ClickHouseSettings
from common.times import iso
from streams.partition.again import Checkpoint, Span
from streams.rewindow.swap import Swap
from streams.store.rewindow.making import Job, RewindowStore
from streams.store.rewindow.swapping import SwapStore
from tests.fix_local import WRITER
from tests.integration.fix_tables import Run, Tables

pytestmark = pytest.mark.clickhouse
DAY = (int(time.time()) // 86_400 - 2) * 86_400
JOB = Job(
    id="0123456789_1",
    state="making",
    topic_id=7,
    span=Span(DAY, DAY + 3_600),
    window_seconds=1,
    filter="port = 443",
    into="incident",
    offsets={0: (100, 300), 1: (0, 200)},
    bucket_seconds=10,
)


@pytest.fixture
def store(tables: Tables, run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[RewindowStore]:
    for name, value in WRITER.items():
        monkeypatch.setenv(f"AYAFLOW_CLICKHOUSE_{name.upper()}", value)
    settings = ClickHouseSettings(url=tables.url, database=tables.database, **WRITER)
    with closing(RewindowStore(settings)) as store:
        yield store


def shadows(tables: Tables) -> list[str]:
    return [name for (name,) in tables.rows(f"SHOW TABLES FROM {tables.database} LIKE 'rewindow\\\\_0%'")]


def test_what_was_begun_is_listed_and_given_up(store: RewindowStore, tables: Tables, run: Run) -> None:
    assert run("rewindows", "--format", "json")[1] == "[]\n"
    store.save(JOB)
    store.make_shadow(JOB)
    tables.flow(window_begin=DAY + 5)
    tables.command(f"INSERT INTO {tables.database}.{JOB.shadow} SELECT * FROM {tables.database}.flows")
    store.checkpoint(JOB, 0, Checkpoint(offset_end=200, boundary=DAY + 60, resume=150, clock_ns=0), done=False)
    code, out, err = run("rewindows", "--format", "json")
    assert (code, err) == (0, "")
    (found,) = json.loads(out)
    assert found.pop("bytes") > 0
    assert found.pop("changed") >= iso(int(time.time()) - 600)
    assert found == {
        "id": JOB.id,
        "state": "making",
        "window_from": iso(DAY),
        "window_until": iso(DAY + 3_600),
        "window_seconds": 1,
        "filter": "port = 443",
        "into": "incident",
        "messages_read": 100,
        "messages": 400,
        "error": "",
    }
    _, out, err = run("rewindows")
    assert "25.0 %" in out
    assert "--window 1s --filter 'port = 443' --into incident" in err

    assert "lists them" in run("rewindows", "--give-up", "0123")[2]  # a part of its name is none
    assert shadows(tables) == [JOB.shadow]
    code, _, err = run("rewindows", "--give-up", JOB.id)
    assert (code, err) == (0, f"given up: {JOB.shadow} is gone\n")
    assert shadows(tables) == []
    assert [(job.state, job.error) for job in store.jobs()] == [("failed", "given up")]
    assert "was failed" in run("rewindows", "--give-up", JOB.id)[2]  # twice is no harm


def test_what_only_lacked_its_last_word_is_not_called_given_up(store: RewindowStore, tables: Tables, run: Run) -> None:
    store.save(replace(JOB, into="kept_one"))
    tables.command("CREATE TABLE DB.kept_one AS DB.flows")
    code, _, err = run("rewindows", "--give-up", JOB.id)
    tables.command("DROP TABLE DB.kept_one")
    assert code == 0
    assert "kept in kept_one" in err
    assert [job.state for job in store.jobs()] == ["kept"]


def test_a_swap_whose_table_is_gone_is_given_up_by_itself(store: RewindowStore) -> None:
    job = replace(JOB, state="swapping", into="", filter="")
    store.save(job)
    with closing(SwapStore(store._settings)) as swaps, pytest.raises(AyaflowError, match="Nothing was changed"):
        Swap(swaps, job, print).run()
    assert [job.state for job in store.jobs()] == ["failed"]
