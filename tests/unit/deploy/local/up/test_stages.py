"""The stages of `ayaflow up` over time, sessions, log files and addresses; no process is started."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.address import Address
from common.errors import EnvironmentProblem
from common.settings import KafkaSettings, Settings
from deploy.local import endpoints
from deploy.local.clickhouse.sessions import SessionIsLocked, Sessions
from deploy.local.kafka.config import server_properties
from deploy.local.process import only_one
from deploy.local.up import preflight, stages
from deploy.local.up.logfile import LogFile
from deploy.local.up.stages import PLANS, STOP_ORDER, Stage, State
from schemas.topics import topics


def stage(name: str) -> Stage:
    return Stage(next(plan for plan in PLANS if plan.name == name))


def test_a_stage_starts_when_all_it_needs_has_been_ready() -> None:
    streams = stage("streams")
    assert not streams.may_start({"kafka"}, 0)
    assert streams.may_start({"kafka", "clickhouse"}, 0)
    streams.started(0)
    assert not streams.may_start({"kafka", "clickhouse"}, 0)


def test_pauses_between_starts_grow_to_thirty_seconds_and_begin_anew_after_a_calm_minute() -> None:
    assert [stages.pause(deaths) for deaths in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]
    kafka = stage("kafka")
    kafka.started(0)
    assert kafka.heard(ok=True, message="", now=1)
    assert not kafka.died(1, "oops", 2)
    assert (kafka.state, kafka.start_at, kafka.message) == (State.WAITING, 3, "oops")
    assert not kafka.may_start(set(), 2.9)
    assert kafka.may_start(set(), 3)
    kafka.started(3)
    kafka.heard(ok=True, message="", now=4)
    kafka.heard(ok=True, message="", now=64)
    kafka.died(-9, "", 65)
    assert (kafka.start_at, kafka.restarts, kafka.message) == (66, 2, "ended with signal 9")


@pytest.mark.parametrize(("code", "fatal"), [(2, True), (3, True), (1, False), (4, False), (-9, False)])
def test_only_a_first_start_that_fails_for_settings_or_this_machine_is_fatal(code: int, fatal: bool) -> None:
    first = stage("producer")
    first.started(0)
    assert first.died(code, "", 1) is fatal
    later = stage("producer")
    later.started(0)
    later.heard(ok=True, message="", now=1)
    assert not later.died(code, "", 2)


def test_a_stage_that_is_not_well_says_why_until_it_is() -> None:
    streams = stage("streams")
    streams.started(0)
    streams.heard(ok=True, message="", now=1)
    streams.heard(ok=False, message="ClickHouse is away", now=2)
    assert (streams.state, streams.message) == (State.UNHEALTHY, "ClickHouse is away")
    streams.heard(ok=True, message="", now=3)
    assert (streams.state, streams.message) == (State.READY, "")


def test_every_stage_has_a_place_in_the_order_of_stops() -> None:
    assert sorted(STOP_ORDER) == sorted(plan.name for plan in PLANS)


class Connection:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def test_a_session_is_kept_and_locked_and_ends_when_idle() -> None:
    sessions = Sessions(Connection)
    with sessions.lease("a", 60, 0) as first, pytest.raises(SessionIsLocked), sessions.lease("a", 60, 1):
        pass
    with sessions.lease("a", 60, 50) as again:
        assert again is first
    with sessions.lease("b", 60, 111) as other:
        assert first.closed
        assert not other.closed
    sessions.close()
    assert other.closed


def test_the_oldest_idle_session_makes_room() -> None:
    sessions = Sessions(Connection)
    with sessions.lease("0", 60, 0) as first:
        pass
    for number in range(1, 300):
        with sessions.lease(str(number), 60, 0):
            pass
    assert first.closed


def test_a_log_is_moved_aside_at_the_start_and_bounded_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("before\n")
    log = LogFile(path, most_bytes=100)
    with log.open() as file:
        assert (tmp_path / "x.log.1").read_text() == "before\n"
        file.write(b"x" * 200 + b"\n")
        file.flush()
        log.check()
        assert path.stat().st_size == 0
        file.write(b"after\n")
    assert path.read_bytes() == b"after\n"


def test_last_words_are_those_of_the_newest_process(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log")
    with log.open() as file:
        file.write(b"ayaflow: error: the old one\n")
    assert log.last_words() == "the old one"
    with log.open() as file:
        assert log.last_words() == ""
        file.write(b'{"level": "error", "action": "failed", "error": "no room"}\n{"level": "info", "action": "bye"}\n')
    assert log.last_words() == "failed: no room"


def test_the_local_broker_is_the_first_bootstrap_server() -> None:
    first = endpoints.kafka(KafkaSettings(bootstrap_servers="[::1]:9092,other:1"))
    assert (first.text, first.is_loopback) == ("[::1]:9092", True)


def test_the_process_that_holds_a_port_is_named() -> None:
    with socket.socket() as closed, socket.create_server(("127.0.0.1", 0)) as server:
        closed.close()  # a descriptor below the server's is free: what reads /proc takes it, and it is gone again
        port = server.getsockname()[1]
        taken = Address(host="127.0.0.1", port=port, setting="x.y")
        assert endpoints.in_use(taken)
        assert "process" in endpoints.refusal(taken)
        assert "set x.y" in endpoints.refusal(taken)
    assert not endpoints.in_use(taken)
    assert endpoints.owner(port) is None


def test_a_directory_is_for_one_process_at_a_time(tmp_path: Path) -> None:
    again = pytest.raises(EnvironmentProblem, match=f"it already runs on {tmp_path}")
    with only_one(tmp_path, "x", "it"), again, only_one(tmp_path, "x", "it"):
        pass
    with only_one(tmp_path, "x", "a test"), only_one(tmp_path, "y", "another"):
        pass


def test_headers_at_a_place_of_ones_own_are_good_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release="0.0-without-headers"))
    monkeypatch.setenv("BCC_KERNEL_SOURCE", str(tmp_path))

    def said() -> list[str]:
        return [str(error) for error in preflight.problems(Settings(data_dir=tmp_path)) if "headers" in str(error)]

    assert not said()
    monkeypatch.delenv("BCC_KERNEL_SOURCE")
    assert said() or Path("/sys/kernel/kheaders.tar.xz").exists()


def test_the_broker_listens_where_clients_look() -> None:
    text = server_properties(
        listener=Address.parse("localhost:9092", "x"), controller_port=9093, data=Path("/d"), partitions=4
    )
    assert "advertised.listeners=PLAINTEXT://localhost:9092\n" in text
    assert "controller.quorum.voters=1@127.0.0.1:9093\n" in text


def test_segments_are_short_enough_for_retention_to_work() -> None:
    for topic in topics(KafkaSettings(packets_retention_hours=0.1, packets_retention_bytes=64 << 20)):
        assert topic.segment_ms < topic.retention_ms
        assert int(topic.config["segment.bytes"]) * 2 <= topic.retention_bytes
