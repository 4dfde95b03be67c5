"""Reverse DNS beside all else: whoever asks for a name gets what is known at that moment, and never waits.

A thread of its own asks, a bounded number of questions at a time and a second; what it learns is kept for its TTL, also
that there is nothing. A server that is away, slow or wrong costs a time-out of that thread, and names.
"""

import asyncio
import ipaddress
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from common import logs
from common.recent import Recent
from common.settings import NamesSettings
from common.settings.names import DNS_PORT, server
from console.live.background import Background
from console.names import ptr
from console.names.ptr import Answer, Question

log = logs.get("console")

KEPT = 65_536  # addresses that are remembered
WAITING = 2_000  # addresses that wait for their turn; more are left out, and asked for when they are shown again
AT_A_TIME = 32
A_SECOND = 100
SECONDS = 2.0  # a server has to answer in
SERVERS = 3  # that are asked, one after the other
_DATAGRAMS = 8  # of a server that are looked at for one question
_AGAIN_SECONDS = 10.0  # then it is looked whether resolv.conf is another one
_END_SECONDS = 2.0
RESOLV_CONF = Path("/etc/resolv.conf")
SOURCE = "reverse"
RESULTS = ("found", "absent", "failed", "left_out")


class ReverseNames:
    """What addresses are called. Use it with `with`; any thread may ask."""

    def __init__(
        self,
        settings: NamesSettings,
        *,
        resolv_conf: Path = RESOLV_CONF,
        clock: Callable[[], float] = time.monotonic,
        background: Background | None = None,
    ) -> None:
        """`clock`: in seconds, by which answers grow old."""
        self._given = [server(text) for text in settings.reverse_servers]
        self._resolv_conf, self._clock = resolv_conf, clock
        self._background = background or Background(log)
        self._lock = threading.Lock()
        self._known: Recent[str, tuple[float, str]] = Recent(KEPT)  # address -> until when, and the name
        self._asked: set[str] = set()
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="reverse-dns", daemon=True)
        self._task: asyncio.Task[None] | None = None
        self._servers = self._given[:SERVERS]
        self._looked = float("-inf")
        self._turn = 0.0
        self._ended = False
        self.counts = dict.fromkeys(RESULTS, 0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._ended = True
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(_END_SECONDS)

    def name(self, address: str) -> str:
        """What it is called, as far as that is known now; if not, it is asked for. Empty: not known, or nothing."""
        with self._lock:
            known = self._known.get(address)
            if known is not None and self._clock() < known[0]:
                return known[1]
            if not self._ended and address not in self._asked and _worth_asking(address):
                if len(self._asked) < WAITING:
                    self._asked.add(address)
                    self._loop.call_soon_threadsafe(self._waiting.put_nowait, address)
                else:
                    self.counts["left_out"] += 1
            return known[1] if known else ""  # what it was called lately, until there is an answer

    def mark(self, rows: Iterable[dict[str, Any]]) -> None:
        """Put what their `dst_addr` is called into rows of flows without a name, marked as such."""
        for row in rows:
            if not row["domain"] and (name := self.name(row["dst_addr"])):
                row["domain"], row["domain_source"] = name, SOURCE

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._task = self._loop.create_task(self._ask_all())
            self._loop.run_until_complete(asyncio.wait([self._task]))
        finally:
            self._loop.close()

    def _stop(self) -> None:
        if self._task:
            self._task.cancel()

    async def _ask_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_A_TIME):
                group.create_task(self._background.keep("reverse DNS", self._ask_next))

    async def _ask_next(self) -> None:
        while True:
            address = await self._waiting.get()
            answer = ptr.FAILED
            try:
                await self._pace()
                answer = await self._ask(address)
            finally:
                self._learn(address, answer)

    async def _pace(self) -> None:
        """Wait for one of the A_SECOND turns of a second."""
        now = self._loop.time()
        self._turn = max(now, self._turn + 1 / A_SECOND)
        await asyncio.sleep(self._turn - now)

    def _learn(self, address: str, answer: Answer) -> None:
        with self._lock:
            self._known.use(address, (self._clock() + answer.seconds, answer.name))
            self._asked.discard(address)
            self.counts["failed" if answer.failed else "found" if answer.name else "absent"] += 1

    async def _ask(self, address: str) -> Answer:
        question = ptr.question(address)
        for host, port in self._asked_servers():
            answer = await _ask_one(question, host, port)
            if not answer.failed:
                return answer
        return ptr.FAILED

    def _asked_servers(self) -> list[tuple[str, int]]:
        """The servers; those of the system are read again when time has gone on, as a laptop goes from net to net."""
        if not self._given and (now := self._loop.time()) - self._looked >= _AGAIN_SECONDS:
            self._looked = now
            self._servers = system_servers(self._resolv_conf)[:SERVERS]
        return self._servers


def system_servers(resolv_conf: Path) -> list[tuple[str, int]]:
    """The name servers of a resolv.conf, in order; none when it cannot be read."""
    try:
        lines = resolv_conf.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                ipaddress.ip_address(words[1])
            except ValueError:
                continue
            found.append((words[1], DNS_PORT))
    return found


class _Asking(asyncio.DatagramProtocol):
    """A question to one server. Its socket is connected: what others send does not come here."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._left = _DATAGRAMS
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if self.answer.done():
            return
        self._left -= 1
        found = ptr.read(data, self._question)
        if found is not None or not self._left:
            self.answer.set_result(found or ptr.FAILED)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there."""
        if not self.answer.done():
            self.answer.set_result(ptr.FAILED)


async def _ask_one(question: Question, host: str, port: int) -> Answer:
    try:
        transport, asking = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Asking(question), remote_addr=(host, port)
        )
    except OSError:  # no route to it
        return ptr.FAILED
    try:
        transport.sendto(question.octets)
        return await asyncio.wait_for(asking.answer, SECONDS)
    except TimeoutError:
        return ptr.FAILED
    finally:
        transport.abort()


def _worth_asking(address: str) -> bool:
    """Whether anybody may have a name for it."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (known.is_multicast or known.is_unspecified or known.is_loopback or known.is_link_local)
