"""Names from the cable to whoever looks, and with names.redact nowhere in the clear."""

import contextlib
import json
import secrets
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.e2e import named_traffic, net
from tests.e2e.system import System, ayaflow_up
from tests.fix_local import temporary_directory
from tests.waiting import HANG_SECONDS, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.kafka,
    pytest.mark.clickhouse,
    pytest.mark.usefixtures("root_and_bcc"),
]
ROUNDS = 4
VIEWS = ("domains", "queries", "failures", "latency", "unseen")


@pytest.fixture(scope="module")
def network() -> Iterator[net.Network]:
    with net.two_hosts(offloads=True) as hosts:
        yield hosts


@contextmanager
def named(network: net.Network, domain: str, **settings: Any) -> Iterator[System]:
    """A system that has seen the traffic of named_traffic with names in `domain`, and stored it."""
    a, b = network.a, network.b
    names = {"capture": {"inspect": True}, **settings}
    with temporary_directory() as directory, ayaflow_up(directory / "data", network.watched, settings=names) as system:
        server = b.python("named_traffic", "serve", b.ipv4, domain)
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            client = a.python("named_traffic", "fetch", b.ipv4, domain, str(ROUNDS))
            assert client.communicate(timeout=HANG_SECONDS)[0] == "done\n"
            time.sleep(11)  # a question without an answer is given up after ten seconds
            system.wait_until_stored(time.time())
            yield system
        finally:
            server.terminate()
            server.communicate(timeout=HANG_SECONDS)


def ask(system: System, path: str) -> bytes:
    with urllib.request.urlopen(f"{system.console}{path}", timeout=HANG_SECONDS) as answer:
        octets: bytes = answer.read()
    return octets


def api(system: System, path: str) -> Any:
    return json.loads(ask(system, path))


def messages(system: System) -> dict[str, list[bytes]]:
    """All that is in Kafka: keys, headers and values of each topic."""
    consumer = Consumer(
        {"bootstrap.servers": system.kafka, "group.id": secrets.token_hex(8), "enable.partition.eof": True}
    )
    found: dict[str, list[bytes]] = {}
    try:
        topics = consumer.list_topics(timeout=HANG_SECONDS).topics
        partitions = [
            TopicPartition(topic, number, OFFSET_BEGINNING)
            for topic, about in topics.items()
            for number in about.partitions
        ]
        consumer.assign(partitions)
        ended = 0
        while ended < len(partitions):
            message = consumer.poll(HANG_SECONDS)
            assert message is not None
            if message.error() is not None:
                ended += 1
                continue
            headers = repr(message.headers()).encode()
            found.setdefault(str(message.topic()), []).append(
                (message.key() or b"") + headers + (message.value() or b"")
            )
    finally:
        consumer.close()
    return found


def everywhere(system: System, network: net.Network, domain: str) -> dict[str, bytes]:
    """All that anybody can read, by where it is; more of the traffic passes meanwhile, for who looks at it live."""
    client = network.a.python("named_traffic", "fetch", network.b.ipv4, domain, "1000")
    try:
        found = {"top": _said(system, "top", "--once", "--format", "json")}
    finally:
        client.terminate()
        client.communicate(timeout=HANG_SECONDS)
    found |= {" ".join(words): _said(system, *words) for words in (("flows",), ("names",), ("names", "--queries"))}
    found |= _stored(system)
    return found


def _said(system: System, *words: str) -> bytes:
    done = system.ayaflow(*words)
    assert done.returncode == 0, done.stderr
    return (done.stdout + done.stderr).encode()


def _stored(system: System) -> dict[str, bytes]:
    found = {f"topic {topic}": b"\n".join(values) for topic, values in messages(system).items()}
    for row in system.rows("SELECT name FROM system.tables WHERE database = 'ayaflow' AND engine LIKE '%MergeTree'"):
        rows = system.rows(f"SELECT * FROM {row['name']}")
        found[f"table {row['name']}"] = json.dumps(rows).encode()
    for file in system.data_dir.rglob("*"):
        if file.suffix in {".log", ".json", ".yaml"} or "spool" in file.parts:
            with contextlib.suppress(OSError):  # a directory, or it is gone by now
                found[f"file {file.name}"] = file.read_bytes()
    for path in (
        "/api/flows?limit=0&since=1h", "/api/history?limit=1000", "/api/live?limit=1000", "/api/stats", "/api/health",
        "/api/top?by=domain", "/api/top?by=ja4,alpn", "/api/series?by=domain", "/api/audit", "/metrics",
        *(f"/api/names?view={view}" for view in VIEWS),
    ):  # fmt: skip
        found[path] = ask(system, path)
    for address in (system.metrics, system.streams_metrics):
        with urllib.request.urlopen(f"{address}/metrics", timeout=HANG_SECONDS) as answer:
            found[address] = answer.read()
    return found


def test_a_name_is_seen_wherever_one_looks_and_the_share_is_right_to_the_byte(network: net.Network) -> None:
    domain = "site.example"
    by_tls, by_http, by_dns = named_traffic.names(domain)
    with named(network, domain) as system:
        stored = {
            row["domain"]: row
            for row in system.rows(
                "SELECT domain, groupUniqArray(domain_source) AS sources, toUInt64(sum(bytes + bytes_rev)) AS octets"
                " FROM flows WHERE primary GROUP BY domain"
            )
        }
        for name, source in ((by_tls, "sni"), (by_http, "http"), (by_dns, "dns")):
            # a window that ends before the client says the name has it of DNS
            assert {source} <= set(stored[name]["sources"]) <= {source, "dns"}
            assert int(stored[name]["octets"]) > ROUNDS * named_traffic.BODY
        total = sum(int(row["octets"]) for row in stored.values())
        with_name = total - int(stored.get("", {"octets": 0})["octets"])
        assert with_name >= 0.9 * total
        answer = api(system, "/api/names?since=1h")
        assert (answer["share"]["named"]["bytes"], answer["share"]["total"]["bytes"]) == (with_name, total)
        assert {row["domain"]: row["bytes"] + row["bytes_rev"] for row in answer["rows"]} == {
            name: int(row["octets"]) for name, row in stored.items() if name
        }
        queries = {(row["name"], row["qtype"]): row for row in api(system, "/api/names?view=queries")["rows"]}
        assert queries[by_tls, "A"]["transactions"] == ROUNDS
        assert queries[by_tls, "A"]["latency_us_max"] > 0
        failures = {row["name"]: row for row in api(system, "/api/names?view=failures")["rows"]}
        results = [failures[f"{name}.{domain}"]["rcode"] for name in ("nowhere", "silent")]
        assert results == ["NXDOMAIN", "no answer"]
        assert {row["transactions"] for row in failures.values()} == {ROUNDS}
        (server,) = api(system, "/api/names?view=latency")["rows"]
        assert (server["server"], server["transactions"]) == (network.b.ipv4, 5 * ROUNDS)
        assert api(system, "/api/names?view=unseen&filter=src_addr+%3D+" + network.a.ipv4)["rows"] == []
        until(lambda: api(system, "/api/stats")["deep_inspect_packets_total"] > 0, lambda: api(system, "/api/stats"))
        found = everywhere(system, network, domain)
        for place in (
            "topic ayaflow.packets", "topic ayaflow.names", "topic ayaflow.flows", "topic ayaflow.live", "table flows",
            "table names", "/api/flows?limit=0&since=1h", "/api/names?view=queries", "/api/live?limit=1000", "flows",
            "names", "top",
        ):  # fmt: skip
            assert by_tls.encode() in found[place], place


@pytest.mark.wide
@pytest.mark.parametrize("mode", ["hash", "drop"])
def test_a_name_that_is_redacted_is_nowhere_in_the_clear(network: net.Network, mode: str, tmp_path: Path) -> None:
    secret = f"s{secrets.token_hex(6)}"
    key = tmp_path / "key"
    key.write_text(secrets.token_hex(32))
    key.chmod(0o600)
    redact = {"redact": mode, **({"redact_key_file": str(key)} if mode == "hash" else {})}
    with named(network, f"{secret}.example", names=redact) as system:
        # it was inspected all the same: types, codes and counts are there, and with a hash domains too
        rows = api(system, "/api/names?view=failures")["rows"]
        assert sum(row["transactions"] for row in rows) == 2 * ROUNDS
        domains = api(system, "/api/names")["rows"]
        assert len(domains) == (3 if mode == "hash" else 0)
        found = everywhere(system, network, f"{secret}.example")
        assert {place for place, octets in found.items() if secret.encode() in octets.lower()} == set()
        assert network.b.ipv4.encode() in found["top"]
