"""The kernel program beside empty ones, in this process, for TEST_RUN and for a pair of interfaces."""

import contextlib
import os
import re
import socket
import statistics
import struct
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pyroute2 import IPRoute

from common.settings import CaptureSettings
from producer.capture.epochs import slots_of
from producer.interfaces.attach.entry import Entries, Label
from producer.kernel import batches, bpfsys
from producer.kernel.abi import COALESCED, COALESCED_KEY, UNLIMITED, WATCHED, counters_of, interface
from producer.kernel.load import by_bcc, loader
from producer.kernel.load.wanted import Wanted
from producer.kernel.maps import fresh_counters
from producer.kernel.pins import PROGRAMS
from producer.kernel.ring import CopyRing, Ring

RING_PAGES = 16_384  # 64 MiB: what a burst of the generator fills
COPY_PAGES = 4_096
FLOW_ENTRIES = CaptureSettings().flow_entries
_HOOK = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}

DETAILS = ("packet", "flow")
"""Settings of capture.detail that the program knows."""


def frame(octets: int = 60) -> bytes:
    """Ethernet, IPv4, UDP."""
    ip = struct.pack(
        ">BBHHHBBH4s4s",
        0x45,
        0,
        octets - 14,
        0,
        0,
        64,
        17,
        0,
        socket.inet_aton("10.0.0.1"),
        socket.inet_aton("192.0.2.1"),
    )
    return bytes(12) + b"\x08\x00" + ip + struct.pack(">HHHH", 1024, 443, octets - 34, 0) + bytes(octets - 42)


class Programs:
    """Ours and two empty ones, loaded."""

    def __init__(self, inspect: int = 0) -> None:
        """`inspect`: octets of payload to be copied where there may be a name."""
        import bcc  # brings LLVM; whoever only wants a frame does without

        text = by_bcc.SOURCE.read_bytes() + Path(__file__).with_name("kernel.bpf.c").read_bytes()
        wanted = Wanted(ring_pages=RING_PAGES, flow_entries=FLOW_ENTRIES, inspect=inspect, copy_pages=COPY_PAGES)
        flags = by_bcc.compiler_flags(wanted)
        self.module: Any = bcc.BPF(text=text, cflags=flags)
        names = ("bench_nothing", "bench_empty", "bench_ingress", "bench_egress", "ayaflow_ingress", "ayaflow_egress")
        self.fds = {name: self.module.load_func(name.encode(), bcc.BPF.SCHED_CLS).fd for name in names}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # bcc would have the maps' names as bytes
            loader.fill(by_bcc.BccModule(self.module).maps)
        self.ring = Ring(self.map("events"), RING_PAGES * 4096)
        self.copies = CopyRing(self.map("copies"), COPY_PAGES * 4096) if inspect else None
        self.counters = counters_of(inspect)
        self.cpus = bpfsys.possible_cpus()
        self._enter("programs", "ayaflow")
        self._enter("bench_programs", "bench")
        self.watch(slot=0)

    def _enter(self, programs: str, kind: str) -> None:
        """Make `hook_KIND_DIRECTION`: what is attached to an interface, of slot 0, and goes on in KIND_DIRECTION."""
        with Entries(
            entered=os.dup(self.map("entered")), programs=os.dup(self.map(programs)), label=Label(node="bench", run="0")
        ) as entries:
            for direction, name in enumerate(PROGRAMS):
                program = struct.pack("=I", self.fds[f"{kind}_{name}"])
                bpfsys.map_update(self.map(programs), struct.pack("=I", direction), program)
                self.fds[f"hook_{kind}_{name}"] = entries.load(0, direction)

    def map(self, name: str) -> int:
        return int(self.module[name.encode()].map_fd)

    def watch(self, slot: int, detail: str = "packet") -> None:
        assert detail in DETAILS
        bpfsys.map_update(self.map("interfaces"), struct.pack("=I", slot), interface(WATCHED))
        always, offset = 2**63, time.time_ns() - time.monotonic_ns()
        config = struct.pack("=16sQQQQ", os.urandom(16), always, offset, detail == "flow", UNLIMITED)
        bpfsys.map_update(self.map("config"), bytes(4), config)
        for each in slots_of(slot, ""):
            bpfsys.map_update(self.map("counters_a"), struct.pack("=I", each.key), self._zeros())

    def _zeros(self) -> npt.NDArray[np.void]:
        return fresh_counters(1, self.cpus, self.counters)

    def flows(self, count: int) -> None:
        """How many flows the runs of the bench_ programs go through."""
        bpfsys.map_update(self.map("bench"), bytes(4), struct.pack("=QQ", 0, count) * self.cpus)

    def release(self) -> int:
        """Throw away what is in the ring and in the flow table. Returns how many octets of the ring it was."""
        table = self.map("flows_a")
        batches.map_delete_all(table, batches.map_read_all(table, COALESCED_KEY, COALESCED, FLOW_ENTRIES)[0])
        start, end = self.ring.consumer_position(), self.ring.producer_position()
        self.ring.release(end)
        if self.copies is not None:
            self.copies.release(self.copies.producer_position())
        return end - start

    def nanoseconds(self, name: str, *, repeat: int = 50_000, rounds: int = 40) -> float:
        """Median of a run, by the kernel's own clock."""
        return statistics.median(self.once(name, frame(), repeat) for _ in range(rounds))

    def once(self, name: str, packet: bytes, repeat: int) -> int:
        """Mean of some runs over a frame, by the kernel's own clock."""
        _, duration = bpfsys.prog_test_run(self.fds[name], packet, repeat=repeat)
        self.release()
        return duration

    @contextlib.contextmanager
    def attached(self, name: str, interface: str, hook: str = "ingress") -> Iterator[None]:
        """On a hook of an interface, as slot 0."""
        index = socket.if_nametoindex(interface)
        with IPRoute() as route:
            route.tc("add", "clsact", index)
            route.tc(
                "add-filter",
                "bpf",
                index,
                0,
                fd=self.fds[name],
                name=name,
                parent=_HOOK[hook],
                direct_action=True,
                classid=0,
            )
            try:
                yield
            finally:
                route.tc("del", "clsact", index)

    def statistics(self, name: str) -> tuple[int, int]:
        """(nanoseconds, runs) so far, as BPF statistics count them."""
        text = Path(f"/proc/self/fdinfo/{self.fds[name]}").read_text()
        found = dict(re.findall(r"^(run_time_ns|run_cnt):\s+(\d+)", text, re.MULTILINE))
        return int(found["run_time_ns"]), int(found["run_cnt"])

    def close(self) -> None:
        self.ring.close()
        if self.copies is not None:
            self.copies.close()
        self.module.cleanup()


@contextlib.contextmanager
def programs(inspect: int = 0) -> Iterator[Programs]:
    made = Programs(inspect)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def bpf_statistics() -> Iterator[None]:
    """The kernel counts the time of each program."""
    path = Path("/proc/sys/kernel/bpf_stats_enabled")
    before = path.read_text()
    path.write_text("1")
    try:
        yield
    finally:
        path.write_text(before)


def on_last_cpu() -> None:
    """Run on the last CPU from now on."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
