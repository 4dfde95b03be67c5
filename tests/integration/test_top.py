"""`ayaflow top` on a pseudo-terminal: keys, another size, and the terminal as it was afterwards.

Needs a JRE and Kafka's jars; no root.
"""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Producer

from console.live.state import KEY
from schemas.avro.codec import Codec
from tests.fix_local import REPOSITORY
from tests.waiting import HANG_SECONDS, until

pytestmark = pytest.mark.kafka
ALTERNATE, PRIMARY, CURSOR_SHOWN = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


@pytest.fixture(scope="module")
def feed(kafka_broker: str) -> Iterator[str]:
    """Twice a second a node tells of 30 connections -> bootstrap servers."""
    producer, codec = Producer({"bootstrap.servers": kafka_broker}), Codec()
    done, start = threading.Event(), time.time()

    def connection(port: int, moment: datetime) -> dict[str, Any]:
        seconds = time.time() - start
        return {
            **dict.fromkeys(KEY, 0),
            "interface": "eth0",
            "direction": "egress",
            "protocol": 6,
            "src_addr": "10.0.0.1",
            "dst_addr": "10.0.0.2",
            "src_port": 40_000 + port,
            "dst_port": 443,
            "packets": int(seconds * (31 - port)),
            "bytes": int(seconds * 1000 * port),
            "packets_rev": 0,
            "bytes_rev": 0,
            "first_seen": moment - timedelta(seconds=seconds),
            "last_seen": moment,
            "tunnel_type": "none",
            "outer_src_addr": "",
            "outer_dst_addr": "",
        }

    def run() -> None:
        while not done.wait(0.5):
            moment = datetime.now(UTC)
            producer.produce(
                "ayaflow.live",
                codec.encode_live_stats(
                    {
                        "node": "n1",
                        "time": moment,
                        "interval_ms": 500,
                        "active_flows": 30,
                        "open_windows": 1,
                        "lag_messages": 0,
                        "interfaces": [],
                        "top": [connection(port, moment) for port in range(1, 31)],
                    }
                ),
                key="n1",
            )
            producer.flush(10)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield kafka_broker
    finally:
        done.set()
        thread.join(15)


class Terminal:
    """`ayaflow top` on a terminal of its own."""

    def __init__(self, bootstrap: str, *words: str) -> None:
        self.ours, theirs = pty.openpty()
        self.theirs = theirs
        self.resize(24, 120)
        self.before = termios.tcgetattr(theirs)
        self.seen = ""
        environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "top", *words, "--set", f"kafka.bootstrap_servers={bootstrap}"],
            cwd=REPOSITORY,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**environment, "TERM": "xterm-256color"},
            # its own terminal, so that Ctrl-C is a signal
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, key: str) -> None:
        os.write(self.ours, key.encode())

    def until(self, pattern: str) -> str:
        """Read until a screen has it; returns the last whole screen, and forgets what was before."""
        deadline = time.monotonic() + HANG_SECONDS
        while True:
            screens = self.seen.split("\x1b[H")  # a screen begins at the top left
            for number, screen in enumerate(screens[:-1]):
                if re.search(pattern, screen):
                    self.seen = "\x1b[H".join(screens[number + 1 :])
                    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
            assert time.monotonic() < deadline, self.seen[-3000:]
            self.read()

    def read(self) -> bool:
        """More of what it writes; false when nothing came in a while or it has ended."""
        if not select.select([self.ours], [], [], 0.2)[0]:
            return False
        self.seen += os.read(self.ours, 65_536).decode(errors="replace")
        return True

    def ended(self) -> tuple[int, str]:
        """Its exit code and its last words."""
        until(lambda: not self.read() and self.process.poll() is not None, lambda: self.seen[-3000:])
        return self.process.wait(), self.seen


@pytest.fixture
def top(feed: str) -> Iterator[Terminal]:
    terminal = Terminal(feed)
    try:
        yield terminal
    finally:
        terminal.process.kill()
        terminal.process.wait()
        for end in (terminal.ours, terminal.theirs):
            with contextlib.suppress(OSError):
                os.close(end)


def ports(screen: str) -> list[int]:
    """Source ports in their order."""
    return [int(port) for port in re.findall(r"10\.0\.0\.1:(\d+)", screen)]


def test_keys_sort_a_new_size_is_used_and_q_leaves_the_terminal_as_it_was(top: Terminal) -> None:
    first = top.until("30 connections by bytes")
    assert ports(first)[:2] == [40_030, 40_029]
    assert "bytes back" in first
    top.press("p")
    assert ports(top.until("connections by packets"))[:2] == [40_001, 40_002]
    top.press("r")
    top.until("connections by rate")
    top.press("x")  # no key of ours
    assert len(ports(top.until("connections by rate"))) == 20
    top.resize(10, 60)
    top.press("b")
    small = top.until("connections by bytes")
    assert len(ports(small)) == 6
    assert "…" not in "".join(small.splitlines()[1:])
    assert max(map(len, small.splitlines())) <= 60
    assert ALTERNATE not in top.seen
    top.press("q")
    code, words = top.ended()
    assert code == 0
    assert PRIMARY in words
    assert CURSOR_SHOWN in words
    assert termios.tcgetattr(top.theirs) == top.before


@pytest.mark.parametrize("how", ["Ctrl-C", pytest.param("SIGTERM", marks=pytest.mark.wide)])
def test_an_interrupt_leaves_the_terminal_as_it_was(top: Terminal, how: str) -> None:
    top.until("connections by bytes")
    assert termios.tcgetattr(top.theirs) != top.before
    if how == "Ctrl-C":
        top.press("\x03")
    else:
        top.process.send_signal(signal.SIGTERM)
    code, words = top.ended()
    assert code == 130
    assert PRIMARY in words
    assert CURSOR_SHOWN in words
    assert "Traceback" not in words
    assert termios.tcgetattr(top.theirs) == top.before
