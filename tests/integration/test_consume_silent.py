"""ayaflow.consume where Kafka, a topic or the registry is not there, or says nothing."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from ayaflow.consume import Flows, ServiceUnavailable
from tests.bench.process import children
from tests.fix_local import free_port, kafka_answers, running_kafka, temporary_directory
from tests.integration.fix_consume import Site, collect, ids, site
from tests.waiting import until

__all__ = ["site"]

pytestmark = pytest.mark.kafka


def test_a_broker_that_is_not_there_is_told_in_time() -> None:
    nobody = f"127.0.0.1:{free_port()}"
    with Flows(nobody, timeout_seconds=2) as reader, pytest.raises(ServiceUnavailable, match=f"{nobody} does not"):
        next(reader)


def test_a_broker_that_is_silent_is_told_in_time_and_nothing_is_left_out() -> None:
    with temporary_directory() as directory, running_kafka(directory) as (bootstrap, process):
        site = Site(bootstrap)
        site.send_records(site.records(100))
        with Flows(bootstrap, group="g", topic=site.topics.flows, timeout_seconds=2) as reader:
            parts = collect(reader, 100)
            with still(process):
                begun = time.monotonic()
                with pytest.raises(ServiceUnavailable, match="does not answer"):
                    next(reader)
                with pytest.raises(ServiceUnavailable, match="were not committed: Kafka does not answer"):
                    parts[-1].commit()
                with pytest.raises(ServiceUnavailable), Flows(bootstrap, group="other", timeout_seconds=2) as other:
                    next(other)
                assert time.monotonic() - begun < 60
            until(lambda: kafka_answers(bootstrap))
            site.send_records(site.records(50, revision=1))
            collect(reader, 150, parts)
            assert {*ids(parts).values()} == {1}
            with still(process):
                begun = time.monotonic()
                reader.close()
                assert time.monotonic() - begun < 60


@contextlib.contextmanager
def still(process: subprocess.Popen[str]) -> Iterator[None]:
    """The broker takes connections and says nothing."""
    pids = children(process.pid)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """A registry that takes questions and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_registry_that_is_silent_is_an_error_in_time_and_nothing_is_left_out(site: Site) -> None:
    site.send_records(site.records(100))
    with silent() as url, Flows(site.kafka, topic=site.topics.flows, schema_registry=url, timeout_seconds=2) as reader:
        begun = time.monotonic()
        with pytest.raises(ServiceUnavailable, match="schema registry"):
            next(reader)
        assert time.monotonic() - begun < 60
        reader._codec = site.codec  # it answers
        assert sum(map(len, reader)) == 100


def test_a_topic_that_was_just_made_is_read_at_once(site: Site) -> None:
    """Its partitions may have no leader yet."""
    for _ in range(4):
        fresh = Site(site.kafka, partitions=8)
        for group in (None, "g"):
            with Flows(fresh.kafka, group=group, topic=fresh.topics.flows) as reader:
                assert reader.poll(0.1) is None


def test_a_topic_that_is_not_there_is_told_with_what_to_do(site: Site) -> None:
    with Flows(site.kafka, topic="nothing") as reader, pytest.raises(ServiceUnavailable, match="no topic nothing at"):
        next(reader)
