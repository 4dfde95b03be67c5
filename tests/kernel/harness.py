"""Runs the loaded kernel program over frames by BPF_PROG_TEST_RUN, through the pins, as the producer opens them."""

import os
import socket
import struct
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.settings import CaptureSettings
from producer.capture.epochs import slots_of
from producer.interfaces.attach.hook import ATTACHED, WAYS, Hook
from producer.kernel import bpfsys, child, pins
from producer.kernel.abi import WATCHED, Records, counters_of, interface
from producer.kernel.layout import Layout, layout_of
from producer.kernel.maps import fresh_counters
from producer.kernel.ring import submitted
from producer.kernel.run import begin_run

TEST_RUN = 0
"""Slot that the kernel gives to a test run, by not knowing of any."""
UNSPEC = -1
_CONTEXT_BYTES = 192  # struct __sk_buff
_OFFSETS = {"mark": 8, "ifindex": 40, "wire_len": 160, "gso_segs": 164, "gso_size": 176}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one run did."""

    returned: int
    events: Records  # of dtype EVENT
    counted: dict[str, int]  # the counters that moved, by name


FLOW_ENTRIES = 1024
LOADER = os.environ.get("TEST_LOADER", "object")
"""Who makes the programs of tests that do not ask for both: an object, which takes no seconds of compiling."""


def layout(ring_pages: int, decapsulate: tuple[str, ...] = (), copy_pages: int = 0, inspect: int = 2048) -> Layout:
    """Of the program that the tests load. `copy_pages`, unless 0: it inspects payload, and copies up to `inspect`."""
    tunnels: Any = list(decapsulate)
    return layout_of(
        CaptureSettings(
            ring_bytes=ring_pages * 4096,
            flow_entries=FLOW_ENTRIES,
            decapsulate=tunnels,
            inspect=copy_pages > 0,
            inspect_bytes=inspect,
            inspect_ring_bytes=max(16, copy_pages) * 4096,
        )
    )


class Program:
    """The kernel program, loaded and pinned in `directory`, attached to `interfaces`; without any to be test-run."""

    def __init__(
        self,
        directory: Path,
        log: Path,
        *,
        interfaces: tuple[str, ...] = (),
        ring_pages: int = 64,
        decapsulate: tuple[str, ...] = (),
        ways: tuple[str, ...] = WAYS,
        copy_pages: int = 0,
        inspect: int = 2048,
        loader: str = LOADER,
    ) -> None:
        directory.mkdir(parents=True)
        self.node = pins.node_of(directory)
        request = {
            "node": self.node,
            "loader": loader,
            "run": 1,
            "pin_directory": str(directory),
            "ring_pages": ring_pages,
            "flow_entries": FLOW_ENTRIES,
            "decapsulate": decapsulate,
            "ways": ways,
            "inspect": inspect if copy_pages else 0,
            "copy_pages": copy_pages,
        }
        answer = child.run("load", request, log=log)
        self.fds = {path.name: bpfsys.obj_get(path) for path in directory.iterdir()}
        self._counters = counters_of(bool(copy_pages))
        self.kernel = begin_run(
            directory,
            layout(ring_pages, decapsulate, copy_pages, inspect),
            ring_id=1,
            opened_ns=answer.values["opened_ns"],
        )
        self.offset_ns = time.time_ns() - time.monotonic_ns()
        self.kernel.config.live(2**63, self.offset_ns)
        self.ring = self.kernel.ring
        self._cpus = bpfsys.possible_cpus()
        self._position = 0
        for slot in range(max(1, len(interfaces))):
            self.set_interface(flags=0, slot=slot)
            self.open_epoch(1, slot)
        if interfaces:
            hooks = [
                asdict(Hook(slot=slot, ifindex=socket.if_nametoindex(name), name=name, namespace=None))
                for slot, name in enumerate(interfaces)
            ]
            answer = child.run("hook", request | {"hooks": hooks}, log=log)
            assert [each["state"] for each in answer.values["outcomes"]] == [ATTACHED] * len(interfaces), answer

    def close(self) -> None:
        self.kernel.close()
        for fd in self.fds.values():
            os.close(fd)

    def set_interface(self, *, flags: int, slot: int = TEST_RUN) -> None:
        bpfsys.map_update(self.fds["interfaces"], struct.pack("=I", slot), interface(WATCHED | flags))

    def open_epoch(self, epoch: int, slot: int = TEST_RUN) -> None:
        """Zero the counters of a slot in the open map, and say which epoch they count."""
        for key in (each.key for each in slots_of(slot, "")):
            rows = fresh_counters(epoch, self._cpus, self._counters)
            bpfsys.map_update(self.fds["counters_a"], struct.pack("=I", key), rows)

    def counters(self, direction: int = 0) -> dict[str, int]:
        octets = self._counters.itemsize * self._cpus
        rows = np.frombuffer(
            bpfsys.map_lookup(self.fds["counters_a"], struct.pack("=I", direction), octets), self._counters
        )
        return {name: int(rows[name].sum()) for name in self._counters.names or () if name != "epoch"}

    def run(self, frame: bytes, hook: str = "ingress", *, repeat: int = 1, **context: int) -> Outcome:
        direction = ("ingress", "egress").index(hook)
        skb = bytearray(_CONTEXT_BYTES) if context else bytearray()
        for name, value in context.items():
            struct.pack_into("=I", skb, _OFFSETS[name], value)
        before = self.counters(direction)
        returned, _ = bpfsys.prog_test_run(self.fds[hook], frame, bytes(skb), repeat)
        after = self.counters(direction)
        return Outcome(
            returned=returned,
            events=self.take_events(),
            counted={name: after[name] - before[name] for name in after if after[name] != before[name]},
        )

    def take_events(self) -> Records:
        """All events since the last call, released."""
        end = self.ring.readable(self._position)
        records = self.ring.span(self._position, end)
        events: Records = records["event"][submitted(records)].copy()
        self.ring.release(end)
        self._position = end
        return events

    def take_copies(self) -> list[tuple[Any, bytes]]:
        """Heads and octets of all copies since the last call, released."""
        ring, taken = self.kernel.copies, []
        assert ring is not None
        begin = ring.consumer_position()
        while (found := ring.read(begin, ring.producer_position())).end != begin:
            for head, at in zip(found.heads, found.offsets.tolist(), strict=True):
                taken.append((head, bytes(found.octets[at : at + int(head["copied"])])))
            begin = found.end
        ring.release(begin)
        return taken

    def leave_unread(self, count: int) -> None:
        """Do as if the last `count` events had not been read."""
        self._position -= count * self.ring.stride


def shown(event: Any) -> dict[str, Any]:
    """The fields of an event, as a test writes them."""
    octets = {"src", "dst", "outer_src", "outer_dst"}
    names = [name for name in event.dtype.names if name != "padding"]
    return {name: bytes(event[name]) if name in octets else int(event[name]) for name in names}
