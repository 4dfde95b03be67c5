"""Real packets between two namespaces, through every part, found again by readers that are not ours."""

import io
import json
import signal
import struct
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.e2e import net, sniffer
from tests.e2e.system import System, ayaflow_up, logs, processes_of
from tests.fix_local import temporary_directory
from tests.kernel.attached import hooks
from tests.waiting import HANG_SECONDS, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.kafka,
    pytest.mark.clickhouse,
    pytest.mark.usefixtures("root_and_bcc"),
]


class Half(NamedTuple):
    """One direction of a conversation, as a sniffer that knows nothing of ayaflow reads it."""

    protocol: int
    src: str
    dst: str
    src_port: int
    dst_port: int


class Truth(NamedTuple):
    """What passed the watched cable between the two hosts."""

    packets: Counter[Half]
    bytes: Counter[Half]


def read_frames(frames: list[bytes]) -> Truth:
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    truth = Truth(Counter(), Counter())
    for octets in frames:
        packet = Ether(octets)
        ip = packet.getlayer(IP) or packet.getlayer(IPv6)
        if ip is None or not (net.is_ours(ip.src) and net.is_ours(ip.dst)):
            continue
        protocol = ip.proto if ip.version == 4 else ip.nh
        ports = (0, 0)
        for layer in (TCP, UDP):
            if ip.haslayer(layer) and not ip.haslayer(ICMP):
                ports = (ip[layer].sport, ip[layer].dport)
        half = Half(protocol, ip.src, ip.dst, *ports)
        truth.packets[half] += 1
        truth.bytes[half] += len(octets)
    return truth


def as_truth(records: list[dict[str, Any]]) -> Truth:
    """Flow records, taken apart into their two directions again."""
    truth = Truth(Counter(), Counter())
    for r in records:
        src, dst = plain(r["src_addr"]), plain(r["dst_addr"])
        if net.is_ours(src) and net.is_ours(dst):
            there = Half(r["protocol"], src, dst, r["src_port"], r["dst_port"])
            back = Half(r["protocol"], there.dst, there.src, there.dst_port, there.src_port)
            for half, packets, octets in ((there, "packets", "bytes"), (back, "packets_rev", "bytes_rev")):
                if int(r[packets]):
                    truth.packets[half] += int(r[packets])
                    truth.bytes[half] += int(r[octets])
    return truth


def plain(address: str) -> str:
    return address.removeprefix("::ffff:") if "." in address else address


@pytest.fixture(scope="module")
def network() -> Iterator[net.Network]:
    with net.two_hosts(offloads=False) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def system(network: net.Network) -> Iterator[System]:
    with temporary_directory() as directory, ayaflow_up(directory / "data", network.watched) as running:
        yield running


@pytest.fixture(scope="module")
def frames(system: System, network: net.Network, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Send the mix of traffic once; every frame that the sniffer saw."""
    file = tmp_path_factory.mktemp("frames") / "frames"
    watcher = network.a.python("sniffer", network.a.interface, str(file))
    server = network.b.python("traffic", "serve", network.b.ipv4, network.b.ipv6)
    try:
        for process in (watcher, server):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        addresses = (network.a.ipv4, network.b.ipv4, network.a.ipv6, network.b.ipv6)
        client = network.a.python("traffic", "send", *addresses)
        assert client.wait(HANG_SECONDS) == 0
        client.communicate()
        until(lambda: not network.a.connections() and not network.b.connections())  # the last ACKs of TCP have passed
        end = time.time()
    finally:
        server.terminate()
        watcher.terminate()
        server.communicate(timeout=HANG_SECONDS)
        missed = watcher.communicate(timeout=HANG_SECONDS)[0]
    assert missed.strip() == "0", "the sniffer itself lost frames"
    system.wait_until_stored(end)
    return sniffer.frames(file)


@pytest.fixture(scope="module")
def truth(frames: list[bytes]) -> Truth:
    """What was between the two hosts."""
    result = read_frames(frames)
    assert {half.protocol for half in result.packets} == {1, 6, 17, 47, 58}
    return result


def test_every_packet_and_byte_is_in_clickhouse_flow_by_flow(system: System, truth: Truth) -> None:
    stored = as_truth(system.rows("SELECT * FROM flows WHERE node = 'e2e'"))
    assert stored.packets == truth.packets
    assert stored.bytes == truth.bytes


def test_the_client_is_the_initiator(system: System, truth: Truth, network: net.Network) -> None:
    rows = system.rows("SELECT * FROM flows WHERE dst_port IN (7001, 7002) OR icmp_type IN (8, 128) OR protocol = 47")
    ours = [r for r in rows if net.is_ours(plain(r["src_addr"]))]
    # of each family 20 of UDP, one of TCP, one ping; and GRE
    assert len({(r["protocol"], r["src_addr"], r["src_port"]) for r in ours}) == 2 * (20 + 1 + 1) + 1
    for r in ours:
        assert plain(r["src_addr"]) in (network.a.ipv4, network.a.ipv6), r
        assert r["direction"] == "ingress", "a's packets come in at our end of its cable"


def test_the_rollups_have_the_same_totals(system: System, truth: Truth) -> None:
    columns = ", ".join(f"sum({name}) AS {name}" for name in ("packets", "bytes", "packets_rev", "bytes_rev"))
    raw, minute, hour = (
        system.rows(f"SELECT {columns} FROM {table} WHERE protocol IN (6, 17, 47)")[0]
        for table in ("flows", "services_1m", "flows_1h")
    )
    assert raw == minute == hour


def test_confluents_own_deserializer_reads_the_flows_topic(system: System, truth: Truth) -> None:
    registry = SchemaRegistryClient({"url": f"{system.console}/schema-registry"})
    deserialize = AvroDeserializer(registry)
    records: list[Any] = []
    keys: set[str] = set()
    consumer = Consumer(
        {
            "bootstrap.servers": system.kafka,
            "group.id": "e2e",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    try:
        consumer.subscribe(["ayaflow.flows"])
        deadline, expected = time.monotonic() + HANG_SECONDS, sum(truth.packets.values())
        while time.monotonic() < deadline and sum(as_truth(records).packets.values()) < expected:
            for message in consumer.consume(1000, 1.0):
                if not message.error():
                    records.append(
                        deserialize(message.value(), SerializationContext("ayaflow.flows", MessageField.VALUE))
                    )
                    key = message.key()
                    assert key is not None
                    keys.add(key.decode())
    finally:
        consumer.close()
        registry.close()
    assert as_truth(records) == truth
    assert keys == {r["community_id"] for r in records}
    assert all(r["first_seen"].astimezone(UTC) <= r["last_seen"].astimezone(UTC) for r in records)


def test_the_ten_lines_of_the_readme_show_the_flows(system: System, truth: Truth) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    program = readme.partition("```python\n")[2].partition("```")[0]
    for default, ours in (("http://127.0.0.1:8080", system.console), ("127.0.0.1:9092", system.kafka)):
        assert default in program
        program = program.replace(default, ours)
    with subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert any("'src_addr': '198.18.0.1'" in line for line in process.stdout)
        finally:
            process.kill()


def test_clickhouses_own_reader_decodes_the_topic(system: System, truth: Truth, tmp_path: Path) -> None:
    """AvroConfluent with our registry, over the raw messages that kcat fetched."""
    raw = subprocess.run(
        ["kcat", "-C", "-b", system.kafka, "-t", "ayaflow.flows", "-e", "-q", "-D", "", "-f", "%s"],
        capture_output=True,
        check=True,
        timeout=HANG_SECONDS,
    ).stdout
    (tmp_path / "flows.bin").write_bytes(raw)
    sql = (
        f"SELECT * FROM file('{tmp_path}/flows.bin', 'AvroConfluent') "
        f"SETTINGS format_avro_schema_registry_url = '{system.console}/schema-registry'"
    )
    program = f"import chdb; print(chdb.query({sql!r}, 'JSONEachRow'))"
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=HANG_SECONDS
    ).stdout
    assert as_truth([json.loads(line) for line in out.splitlines() if line.startswith("{")]) == truth


def test_packets_of_the_topic_are_those_of_the_wire(system: System, truth: Truth) -> None:
    """PacketBatch through confluent's deserializer: one entry a frame, nothing coalesced, positions without a gap."""
    import fastavro

    newest = f"{system.console}/schema-registry/subjects/ayaflow.packets-value/versions/latest"
    with urllib.request.urlopen(newest, timeout=HANG_SECONDS) as answer:
        schema = fastavro.parse_schema(json.loads(json.loads(answer.read())["schema"]))
    consumer = Consumer({"bootstrap.servers": system.kafka, "group.id": "e2e-packets", "auto.offset.reset": "earliest"})
    found, position, deadline = Truth(Counter(), Counter()), None, time.monotonic() + HANG_SECONDS
    try:
        consumer.subscribe(["ayaflow.packets"])
        while time.monotonic() < deadline and sum(found.packets.values()) < sum(truth.packets.values()):
            for message in consumer.consume(1000, 1.0):
                assert message.key() == b"e2e"
                value = message.value()
                assert value is not None
                batch: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)
                assert position in (None, batch["ring_start"])
                position = batch["ring_end"]
                for i, flow in enumerate(batch["flow"]):
                    protocol, src_addr, dst_addr, src_port, dst_port = (
                        batch[f"flow_{name}"][flow]
                        for name in ("protocol", "src_addr", "dst_addr", "src_port", "dst_port")
                    )
                    if net.is_ours(src_addr) and net.is_ours(dst_addr):
                        half = Half(protocol, src_addr, dst_addr, src_port, dst_port)
                        found.packets[half] += batch["packets"][i]
                        found.bytes[half] += batch["bytes"][i]
    finally:
        consumer.close()
    assert found == truth


def test_the_same_frames_replayed_give_the_same_flows(
    system: System, truth: Truth, frames: list[bytes], tmp_path: Path
) -> None:
    capture, out = tmp_path / "frames.pcap", tmp_path / "flows.jsonl"
    with capture.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
        for i, octets in enumerate(frames):
            file.write(struct.pack("<IIII", 1_700_000_000, i, len(octets), len(octets)) + octets)
    done = system.ayaflow("replay", str(capture), "--output", str(out))
    assert done.returncode == 0, done.stderr
    replayed = [json.loads(line) for line in out.read_text().splitlines()]
    assert as_truth(replayed) == truth

    def conversations(records: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
        """Each with its initiator first."""
        return {
            (plain(r["src_addr"]), r["src_port"], plain(r["dst_addr"]), r["dst_port"], r["protocol"], r["icmp_type"])
            for r in records
            if net.is_ours(plain(r["src_addr"])) and net.is_ours(plain(r["dst_addr"]))
        }

    live = system.rows("SELECT * FROM flows WHERE node = 'e2e' AND dst_port != 9")
    assert conversations(replayed) == conversations(live)


def test_audit_is_exact_and_says_so_for_people_and_machines(system: System, truth: Truth) -> None:
    people, machines = system.ayaflow("audit"), system.ayaflow("audit", "--format", "json")
    assert people.returncode == machines.returncode == 0, people.stdout + people.stderr
    assert "e2e" in people.stdout
    report = json.loads(machines.stdout)
    assert report["exact"]
    assert sum(row["seen_packets"] for row in report["rows"]) >= sum(truth.packets.values())


def test_the_reading_commands_show_the_traffic(system: System, truth: Truth) -> None:
    flows = system.ayaflow("flows", "--since", "10m", "--format", "json", "--limit", "100000")
    assert flows.returncode == 0, flows.stderr
    assert "198.18.0.2" in flows.stdout
    query = system.ayaflow("query", "SELECT protocol, sum(packets) FROM flows GROUP BY 1 ORDER BY 1", "--format", "csv")
    assert query.returncode == 0, query.stderr
    assert [line.split(",")[0] for line in query.stdout.splitlines()[1:]][:2] == ["1", "6"]
    doctor = system.ayaflow("doctor")
    assert doctor.returncode == 0, doctor.stdout


def test_health_is_green(system: System) -> None:
    with urllib.request.urlopen(f"{system.console}/api/health", timeout=HANG_SECONDS) as answer:
        assert answer.status == 200
        assert {stage["stage"] for stage in json.loads(answer.read())["stages"]} >= {
            "kafka",
            "clickhouse",
            "producer",
            "streams",
        }


def test_a_hundred_thousand_small_packets_a_second_come_out_exact(
    system: System, network: net.Network, truth: Truth
) -> None:
    sent, flows, before = 200_000, 500, time.time()
    words = (
        network.a.interface,
        network.a.mac,
        network.b.mac,
        network.a.ipv4,
        network.b.ipv4,
        str(sent),
        "100000",
        str(flows),
    )
    blast = network.a.python("blast", *words)
    report = blast.communicate(timeout=HANG_SECONDS)[0]
    assert blast.returncode == 0
    system.wait_until_stored(time.time())
    row = system.rows(
        "SELECT sum(packets) AS packets, sum(bytes) AS bytes, uniqExact(src_port) AS ports FROM flows "
        f"WHERE dst_port = 9 AND window_begin >= toDateTime({int(before) - 10})"
    )[0]
    assert {name: int(value) for name, value in row.items()} == {"packets": sent, "bytes": sent * 60, "ports": flows}, (
        report
    )
    audit = json.loads(system.ayaflow("audit", "--format", "json").stdout)
    assert audit["exact"]
    assert {row["ring_full_packets"] for row in audit["rows"]} == {0}


def test_control_c_leaves_nothing_behind(network: net.Network, tmp_path: Path) -> None:
    foreign = ("tc", "qdisc", "show", "dev", network.other)
    before = net.run(*foreign)
    with ayaflow_up(tmp_path / "data", network.other, node="e2e-stop") as system:
        assert len(hooks(network.other)) == 2
        assert Path("/sys/fs/bpf/ayaflow/e2e-stop").exists()
        system.process.send_signal(signal.SIGINT)
        out, err = system.process.communicate(timeout=HANG_SECONDS)
        assert system.process.returncode == 0, out + err + logs(system.data_dir)
    assert not hooks(network.other)
    assert net.run(*foreign) == before
    assert not Path("/sys/fs/bpf/ayaflow/e2e-stop").exists()
    assert processes_of(tmp_path / "data") == []
