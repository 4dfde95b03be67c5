"""Steady traffic over a pair of interfaces, and what of it must be found again."""

import json
import math
import signal
import subprocess

import numpy as np

from tests.bench import generator
from tests.bench.generator import Sent
from tests.waiting import until

FIRST_PORT = 1024  # of blast.c, and below
_MIXED = np.array([60, 576, 60, 60, 1514, 60, 576, 60, 576, 60, 576, 60])
LONGEST_SECONDS = 7_200

Totals = dict[int, tuple[int, int]]
"""Packets and bytes by source port."""


class Sender:
    """A generator (tests/bench/blast.c) that sends from the beginning of the block until its end."""

    def __init__(self, interface: str, *, rate: int, flows: int = 500, mix: str = "mixed", family: str = "46") -> None:
        """`rate` in packets a second; 0: as fast as it goes."""
        self._interface, self._rate, self._flows, self._mix, self._family = interface, rate, flows, mix, family
        self._process: subprocess.Popen[str] | None = None
        self.sent: Sent | None = None

    def __enter__(self) -> "Sender":
        before = packets_of(self._interface, "tx")
        packets = (self._rate or 5_000_000) * LONGEST_SECONDS
        self._process = generator.start(
            self._interface, packets=packets, flows=self._flows, rate=self._rate, mix=self._mix, family=self._family
        )
        until(lambda: packets_of(self._interface, "tx") > before)  # it has its signal handler by then
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> Sent:
        """Send no more."""
        if self.sent is None:
            assert self._process is not None
            self._process.send_signal(signal.SIGTERM)
            self.sent = generator.finish(self._process)
        return self.sent

    def totals(self) -> Totals:
        """What was sent."""
        sent = self.stop()
        found = totals(sent.packets, flows=self._flows, mix=self._mix, family=self._family)
        assert sum(octets for _, octets in found.values()) == sent.bytes, json.dumps(sent.bytes)
        return found


def totals(packets: int, *, flows: int, mix: str, family: str) -> Totals:
    """What blast.c sends, by its rules: flow and length of a frame follow from its number."""
    counts, octets = np.zeros(flows, np.int64), np.zeros(flows, np.int64)
    period = math.lcm(flows, 144)  # number * 7 / 12 % 12 begins anew after 144
    for length, times in ((period, packets // period), (packets % period, 1)):
        number = np.arange(length)
        flow = number % flows
        six = (family == "6") | ((family == "46") & (flow % 2 == 1))
        size = _MIXED[number * 7 // 12 % 12] if mix == "mixed" else np.full(length, 60)
        size = np.maximum(size, np.where(six, 62, 42))
        counts += np.bincount(flow, minlength=flows) * times
        octets += np.bincount(flow, weights=size, minlength=flows).astype(np.int64) * times
    return {FIRST_PORT + i: (int(counts[i]), int(octets[i])) for i in range(flows) if counts[i]}


def received(interface: str) -> int:
    """Packets that came to an interface, before any hook."""
    return packets_of(interface, "rx")


def packets_of(interface: str, way: str) -> int:
    """What an interface of this network namespace counted; /sys may be another's."""
    said = subprocess.run(["ip", "-s", "-j", "link", "show", interface], capture_output=True, text=True, check=True)
    return int(json.loads(said.stdout)[0]["stats64"][way]["packets"])
