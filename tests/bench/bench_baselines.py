"""Ours beside what can be installed: bcc's callback, fastavro per record, nfstream and pmacctd on the same wire."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from tests.bench import baselines, generator
from tests.bench.node import producer
from tests.bench.places import bpf_filesystem, kafka, pair
from tests.bench.process import children, cpu_seconds, peak_rss_mb
from tests.bench.results import ROOT, Row

RATE, SECONDS = 300_000, 6
NFSTREAM_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
_PMACCTD = """daemonize: false
pcap_interface: {interface}
aggregate: src_host, dst_host, src_port, dst_port, proto
plugins: print
print_refresh_time: 5
print_output_file: {directory}/flows.txt
plugin_buffer_size: 102400
plugin_pipe_size: 10240000
pcap_ifindex: none
"""


def run() -> Iterator[Row]:
    ours = baselines.our_cost()
    yield Row(what="ring to encoded batches: ours", value=ours, unit="CPU s per M events")
    for name, callback in (("empty", baselines.empty_callback), ("counts by flow", baselines.counting_callback())):
        cost = baselines.callback_cost(callback)
        yield Row(
            what=f"ring: bcc's open_ring_buffer, callback {name}",
            value=cost,
            unit="CPU s per M events",
            against="ours",
            ratio=cost / ours,
        )
    single, batched = baselines.record_costs()
    yield Row(what="encoding: ours, 16,384 packets a batch, 500 flows", value=batched, unit="CPU s per M packets")
    yield Row(
        what="encoding: fastavro, a PacketEvent each",
        value=single,
        unit="CPU s per M packets",
        against="ours",
        ratio=single / batched,
    )
    for flows in (4, 50_000):
        own = yield from _our_producer(flows)
        for name, command in (("pmacctd (C)", _pmacctd), ("nfstream (Python and C)", _nfstream)):
            yield from _peer(name, command, flows, own)


@contextlib.contextmanager
def _pmacctd(interface: str, directory: Path) -> Iterator[int]:
    config = directory / "pmacctd.conf"
    config.write_text(_PMACCTD.format(interface=interface, directory=directory))
    with _running(["pmacctd", "-f", str(config)], directory) as pid:
        yield pid


@contextlib.contextmanager
def _nfstream(interface: str, directory: Path) -> Iterator[int]:
    code = (
        "from nfstream import NFStreamer\n"
        f"for flow in NFStreamer(source={interface!r}, statistical_analysis=False, idle_timeout=2, n_dissections=0):\n"
        "    pass"
    )
    if not NFSTREAM_PYTHON.exists():
        raise RuntimeError("nfstream is not installed: run deploy/local/setup.sh bench")
    with _running([str(NFSTREAM_PYTHON), "-c", code], directory) as pid:
        yield pid


@contextlib.contextmanager
def _running(command: list[str], directory: Path) -> Iterator[int]:
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it and what it has forked: a group of our own
        process.wait()


Starter = Callable[[str, Path], contextlib.AbstractContextManager[int]]


def _our_producer(flows: int) -> Generator[Row, None, float]:
    with (
        kafka() as broker,
        bpf_filesystem() as bpffs,
        pair() as (sender, watched),
        producer(broker, bpffs, watched) as node,
    ):
        before = cpu_seconds(node.pid)
        sent = generator.send(sender, packets=RATE * SECONDS, flows=flows, rate=RATE)
        node.settled(sent.packets)
        cost = (cpu_seconds(node.pid) - before) / sent.packets * 1e6
        yield Row(what=f"{RATE:,} packets/s, {flows:,} flows: ours, user space", value=cost, unit="CPU s per M packets")
        yield Row(what=f"{RATE:,} packets/s, {flows:,} flows: ours, memory", value=peak_rss_mb(node.pid), unit="MB RSS")
    return cost


def _peer(name: str, command: Starter, flows: int, own: float) -> Iterator[Row]:
    with (
        pair() as (sender, watched),
        tempfile.TemporaryDirectory() as directory,
        command(watched, Path(directory)) as pid,
    ):
        time.sleep(3)  # until it listens; none of them says so
        pids = [pid, *children(pid)]
        before = sum(map(cpu_seconds, pids))
        sent = generator.send(sender, packets=RATE * SECONDS, flows=flows, rate=RATE)
        time.sleep(1.5)
        cost = (sum(map(cpu_seconds, pids)) - before) / sent.packets * 1e6
        memory = sum(map(peak_rss_mb, pids))
    label = f"{RATE:,} packets/s, {flows:,} flows: {name}"
    yield Row(what=f"{label}", value=cost, unit="CPU s per M packets", against="ours", ratio=cost / own)
    yield Row(what=f"{label}, memory", value=memory, unit="MB RSS")
