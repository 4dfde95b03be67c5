"""`ayaflow replay` as people run it: to a file, and to a real Kafka."""

import fcntl
import json
import os
import random
import signal
import struct
import subprocess
import sys
import termios
import time
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Consumer
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether

from schemas.avro.codec import Codec
from schemas.avro.flow_encoder import arrow_rows
from schemas.packets import PacketBatch
from streams.partition.state import Partition
from streams.windowing.offline import OfflineWindows
from streams.windowing.spill import Spill
from tests.kernel.fix_replay import Directed, directed
from tests.kernel.harness import LOADER
from tests.unit.producer.replay.captures import Frame, pcap
from tests.waiting import HANG_SECONDS, until

ROOT = Path(__file__).parents[2]
SECOND = 1_000_000_000
BEGIN_NS = 1_700_000_000 * SECOND
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
ARP_FRAME = bytes(ETHER / ARP(hwsrc="02:00:00:00:00:01", psrc="10.0.0.1", pdst="10.0.0.2"))

_HOST, _PORT = 14 + 15, 14 + 20  # of the source: the last octet of its address, and its port

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root_and_bcc")]


@pytest.fixture(autouse=True)
def loader_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AYAFLOW_CAPTURE_LOADER", LOADER)


def ayaflow(*words: str, data_dir: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "cli.main", "replay", *words, "--data-dir", str(data_dir)]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, check=False, timeout=HANG_SECONDS)


def traffic(count: int) -> list[Frame]:
    """So many packets in 30 s, a few ARP frames among them. Scapy makes one of each size; who sends is put in."""
    rng = random.Random(7)
    of_size = [bytes(ETHER / IP(src="10.0.0.0", dst="192.0.2.1") / UDP(dport=53) / bytes(size)) for size in range(50)]
    frames = []
    for number in range(count):
        made = bytearray(rng.choice(of_size))
        made[_HOST] = rng.randrange(9)
        struct.pack_into("!H", made, _PORT, 40_000 + rng.randrange(200))
        octets = ARP_FRAME if number % 100 == 99 else bytes(made)
        frames.append(Frame(octets=octets, wire=len(octets), time_ns=BEGIN_NS + number * 30 * SECOND // count))
    return frames


def expected(frames: list[Frame]) -> Directed:
    sums: Directed = {}
    for frame in frames:
        if frame.octets != ARP_FRAME:
            (port,) = struct.unpack_from("!H", frame.octets, _PORT)
            key = (17, f"10.0.0.{frame.octets[_HOST]}", port, "192.0.2.1", 53, 0)
            into = sums.setdefault(key, [0, 0, 0])
            into[0] += 1
            into[1] += frame.wire
    return sums


def test_flows_come_as_json_lines_and_the_summary_says_what_became_of_each_frame(tmp_path: Path) -> None:
    frames = traffic(1000)
    (tmp_path / "office.pcap").write_bytes(pcap(frames, unit=1))
    out = tmp_path / "flows.jsonl"
    done = ayaflow(str(tmp_path / "office.pcap"), "--output", str(out), "--window", "30", data_dir=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")
    flows = [json.loads(line) for line in out.read_text().splitlines()]
    assert directed(flows) == expected(frames)
    assert {(flow["node"], flow["interface"], flow["window_seconds"]) for flow in flows} == {
        ("replay-office", "office", 30)
    }
    assert done.stderr.decode().startswith(
        f"ayaflow replay: 1,000 frames read, {len(flows)} flows written to {out}, "
        "10 non-IP, 0 malformed, 0 unsupported ("
    )
    assert done.stderr.count(b"\n") == 1


def test_a_connection_has_one_source_in_all_windows_of_a_capture(tmp_path: Path) -> None:
    """NFS from its SYN on, two ports alike that were connected before, and a SYN against what the ports say."""
    connections = [("10.0.0.1", 775, "10.0.0.2", 2049), ("10.0.0.1", 40_000, "10.0.0.2", 50_000)]
    against = ("10.0.0.9", 22, "10.0.0.1", 50_022)
    frames = list[Frame]()

    def frame(second: float, src: str, sport: int, dst: str, dport: int, flags: str = "A") -> None:
        octets = bytes(ETHER / IP(src=src, dst=dst) / TCP(sport=sport, dport=dport, flags=flags))
        frames.append(Frame(octets=octets, wire=len(octets), time_ns=BEGIN_NS + int(second * SECOND)))

    for window in range(6):
        for number, (client, port, server, service) in enumerate([*connections, against]):
            if window == 0 and number != 1:
                frame(number, client, port, server, service, "S")
            there, back = (client, port, server, service), (server, service, client, port)
            for after, ends in enumerate([there, back] if window % 2 else [back, there]):
                frame(window * 10 + 4 + number + after / 2, *ends)
    (tmp_path / "nfs.pcap").write_bytes(pcap(frames))
    done = ayaflow(str(tmp_path / "nfs.pcap"), "--output", "-", "--window", "10", data_dir=tmp_path)
    found = Counter(
        (flow["src_addr"], flow["src_port"], flow["dst_addr"], flow["dst_port"])
        for flow in map(json.loads, done.stdout.splitlines())
    )
    assert found == dict.fromkeys([*connections, against], 6)


def test_a_broken_capture_from_standard_input_gives_what_could_be_read_and_exit_code_1(tmp_path: Path) -> None:
    frames = traffic(100)
    done = ayaflow("-", "--output", "-", "--node", "lab", data_dir=tmp_path, stdin=pcap(frames, unit=1)[:-1])
    flows = [json.loads(line) for line in done.stdout.splitlines()]
    assert directed(flows) == expected(frames[:-1])
    assert {flow["node"] for flow in flows} == {"lab"}
    assert done.returncode == 1
    size = len(pcap(frames)) - 1
    assert done.stderr.decode().splitlines()[-1] == (
        f"ayaflow: error: standard input ends in the middle of a packet at byte {size:,}"
    )


@pytest.mark.parametrize(
    ("octets", "code", "message"),
    [
        (pcap(traffic(3), link=147), 1, "3 frames of link type 147 (user 0) were not read"),
        (b"no capture", 1, "is neither pcap nor pcapng"),
        (b"", 1, "is empty"),
        (pcap([]), 0, "0 frames read"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, octets: bytes, code: int, message: str) -> None:
    (tmp_path / "a.pcap").write_bytes(octets)
    done = ayaflow(str(tmp_path / "a.pcap"), "--output", "-", "--format", "csv", data_dir=tmp_path)
    assert done.returncode == code
    assert message in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert done.stdout.startswith(b'"record_id","node","interface"')


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nothing.pcap",), "cannot read nothing.pcap: No such file"),
        (("-", "-"), "standard input (-) can be read once"),
        (("-", "--speed", "0"), "--speed 0: write max, 1"),
        (("-", "--output", "/nonexistent/x"), "--output /nonexistent/x: cannot write"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = ayaflow(*words, data_dir=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_the_files_of_a_rotated_capture_are_one_interface(tmp_path: Path) -> None:
    frames = traffic(514)
    files = [tmp_path / f"eth0-{number:03}.pcap" for number in range(514)]
    for file, frame in zip(files, frames, strict=True):
        file.write_bytes(pcap([frame], unit=1))
    words = [str(file) for file in files]
    done = ayaflow(*words, "--interface", "eth0", "--output", "-", "--window", "3600", data_dir=tmp_path)
    flows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert {flow["interface"] for flow in flows} == {"eth0"}
    assert directed(flows) == expected(frames)


def test_ctrl_c_ends_a_replay_that_waits_for_a_pipe_and_what_came_is_written(tmp_path: Path) -> None:
    frames = traffic(100)
    command = [sys.executable, "-m", "cli.main", "replay", "-", "--output", "-", "--data-dir", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(pcap(frames, unit=1)[:-1])
        process.stdin.flush()
        pipe = process.stdin.fileno()
        until(lambda: _is_empty(pipe) and _waits_in_poll(process.pid))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=HANG_SECONDS)
    flows = [json.loads(line) for line in out.splitlines()]
    assert (process.returncode, directed(flows)) == (130, expected(frames[:-1])), err
    assert b"stopped: 99 frames read" in err
    assert b"error" not in err


def _is_empty(pipe: int) -> bool:
    """Whether all that was written has been read."""
    return fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)) == bytes(4)


def _waits_in_poll(pid: int) -> bool:
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] in {"7", "271"}  # poll, ppoll


@pytest.mark.parametrize(
    ("redirection", "code", "message"),
    [
        ("- <&-", 3, "cannot read standard input: it is closed"),
        ("a.pcap --output /dev/full", 1, "cannot write /dev/full: No space left on device"),
        ("a.pcap --output - > /dev/full", 3, "cannot write standard output: No space left on device"),
        ("a.pcap --output - >&-", 3, "cannot write standard output: it is closed"),
    ],
)
def test_streams_that_are_closed_or_full_are_one_line(
    tmp_path: Path, redirection: str, code: int, message: str
) -> None:
    (tmp_path / "a.pcap").write_bytes(pcap(traffic(300)))
    command = f"{sys.executable} -m cli.main --data-dir {tmp_path} replay {redirection}"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert (done.returncode, message in done.stderr.decode()) == (code, True), done.stderr
    assert done.stderr.count(b"\n") == 1


def consume(bootstrap: str, node: str) -> list[PacketBatch]:
    """All batches of a node."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"test-{node}",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": False,
        }
    )
    codec, found = Codec(), []
    consumer.subscribe(["ayaflow.packets"])
    deadline = time.monotonic() + HANG_SECONDS
    try:
        while time.monotonic() < deadline:
            messages = [each for each in consumer.consume(500, 1.0) if each.key() == node.encode()]
            found += [codec.decode_packet_batch(each.value() or b"") for each in messages]
            if found and not len(found[-1]):  # the final heartbeat
                return found
    finally:
        consumer.close()
    raise AssertionError(f"{len(found)} batches and no heartbeat at the end")


def windowed(batches: list[PacketBatch]) -> tuple[Directed, Partition]:
    """The flows of batches, and what streams knows once it has taken them."""
    partition = Partition(0, position=0, window_seconds=10, node_timeout_seconds=10)
    windows = OfflineWindows(window_seconds=10, store=Spill())
    for offset, each in enumerate(batches):
        taken = partition.take(offset, each, now=1000.0)
        assert (taken.duplicates, taken.gap_bytes, taken.after_epoch) == (0, 0, 0)
        windows.add(each)
    flows = [row for each in windows.flows() for row in arrow_rows(each).to_pylist()]
    return directed(flows), partition


@pytest.mark.kafka
@pytest.mark.parametrize("speed", ["max", pytest.param("15", marks=pytest.mark.wide)])
def test_what_is_sent_to_kafka_makes_the_same_flows_and_an_exact_ledger(
    kafka_broker: str, tmp_path: Path, speed: str
) -> None:
    frames = traffic(20_000)
    path = tmp_path / f"at-{speed}.pcap"
    path.write_bytes(pcap(frames, unit=1))
    began = time.monotonic()
    done = ayaflow(str(path), "--speed", speed, "--set", f"kafka.bootstrap_servers={kafka_broker}", data_dir=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(b"packets of 2023-11-14 are older than clickhouse.flows_retention_days") == 1
    if speed != "max":
        assert time.monotonic() - began >= 2.0  # 30 s of traffic
    batches = consume(kafka_broker, f"replay-at-{speed}")
    assert [each.sequence for each in batches] == list(range(len(batches)))
    flows, partition = windowed(batches)
    assert flows == expected(frames)
    # the last heartbeat closes the last window
    assert [job.window.start for job in partition.due(now=1001.0)] == [1_700_000_000 + 10 * n for n in range(3)]
    epochs = partition.accounts.closed()
    counters = [row.counters for epoch in epochs for row in epoch.rows]
    assert sum(row.seen_packets for row in counters) == 20_000
    assert sum(row.non_ip_packets for row in counters) == 200
    for epoch in epochs:
        for row in epoch.rows:
            assert row.counters.emitted_packets == sum(row.consumed_packets)
            assert row.counters.emitted_bytes == sum(row.consumed_bytes)
