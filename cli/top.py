"""`ayaflow top`: the connections that are active now, from the live topic; on a terminal, in place."""

import contextlib
import json
import os
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.standard import say
from common.errors import ServiceUnavailable
from common.plain import plain, short
from common.settings import Settings
from common.stopping import Stop, stop_on_signals
from common.times import iso
from console.live.hub import Naming
from console.live.reader import LiveReader
from console.live.state import LiveState
from console.names.naming import naming
from console.query import match
from console.query.filters import Filter
from console.reports.completeness import Completeness, of_live
from console.reports.sentence import of_traffic
from console.show import names, output, tables
from console.show.flows import endpoint

FIRST_SECONDS = 15.0
"""So long the first message is waited for."""
_SETTLE_SECONDS = 2.5  # two messages of each node give a rate
_KEYS = {"b": "bytes", "p": "packets", "r": "rate"}
_WORDS = {"node", "if", "dir", "proto", "source", "destination", "name"}
_DISPENSABLE = ("packets/s", "if", "dir", "bytes back", "packets", "proto", "node", "bytes/s")
"""Columns that a narrow terminal goes without, the first named first."""
Row = Mapping[str, Any]


def run(settings: Settings, flow_filter: Filter, *, sort: str, limit: int, once: bool, form: str, out: TextIO) -> int:
    """Until q, Ctrl-C or, with `once`, the first answer. Raises ServiceUnavailable when nothing comes."""
    match.check_live(flow_filter)
    with contextlib.ExitStack() as stack:
        view = _View(settings, flow_filter, limit, stack.enter_context(naming(settings.names)))
        reader = stack.enter_context(LiveReader.of(settings.kafka, settings.schema_registry.url, view.heard))
        view.wait(reader)
        if form == "json":
            _write_json(view, sort, once=once, out=output.for_programs(out))
        elif once or not out.isatty():
            rows = view.rows(sort)
            tables.show(table(rows, tables.width_of(out)), out)
            if text := names.listed(rows):
                say(text)
            say(view.complete())
            if not rows:
                say("no connection is active, or none matches")
        else:
            _draw(view, reader, sort, out)
    return 0


class _View:
    """The live state between the reader's thread and ours."""

    def __init__(self, settings: Settings, flow_filter: Filter, limit: int, named: Naming | None = None) -> None:
        self._naming = named
        self._state = LiveState(settings.live.connection_timeout_seconds)
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._filter = flow_filter
        self._limit = limit

    def heard(self, stats: dict[str, Any]) -> None:
        with self._lock:
            self._state.add(stats, time.monotonic())
        self._arrived.set()

    def wait(self, reader: LiveReader) -> None:
        if not self._arrived.wait(FIRST_SECONDS):
            raise ServiceUnavailable(
                f"{reader.problem or f'no live message came in {FIRST_SECONDS:.0f} seconds'}; see `ayaflow doctor`"
            )
        time.sleep(_SETTLE_SECONDS)

    def rows(self, sort: str) -> list[dict[str, Any]]:
        chosen = (lambda row: match.matches(self._filter, row)) if self._filter.expression else None
        with self._lock:
            rows = self._state.connections(time.monotonic(), sort=sort, limit=self._limit, chosen=chosen)
        if self._naming:
            self._naming.mark(rows)
        return rows

    def completeness(self) -> Completeness:
        with self._lock:
            return of_live(self._state.totals())

    def complete(self) -> str:
        return f"since it listens: {of_traffic(self.completeness())}"

    def nodes(self) -> tuple[int, float, float]:
        with self._lock:
            now = time.monotonic()
            return len(self._state.nodes(now)), *self._state.rates(now, 10)


def _write_json(view: _View, sort: str, *, once: bool, out: TextIO) -> None:
    """As /api/live answers, and how complete it is; without `once`, a line a second."""
    while True:
        rows = view.rows(sort)
        answer = {
            "time": iso(datetime.now(UTC), digits=6),
            "connections": rows,
            "share": names.share_of(rows),
            "completeness": view.completeness().of_traffic(),
        }
        out.write(json.dumps(answer, ensure_ascii=False) + "\n")
        out.flush()
        if once:
            return
        time.sleep(1)


def _draw(view: _View, reader: LiveReader, sort: str, out: TextIO) -> None:
    console = Console(file=out, highlight=False)
    # not KeyboardInterrupt: an exception out of a handler may be lost where nobody can catch it, in a callback
    live = Live(console=console, screen=True, auto_refresh=False)
    with stop_on_signals() as stop, _keys(stop) as pressed, live:
        while not stop.is_set():
            live.update(_screen(view, reader.problem, sort, *console.size), refresh=True)
            key = pressed(1.0)
            if key == "q":
                return
            sort = _KEYS.get(key, sort)
    raise KeyboardInterrupt  # now that the terminal is as before


def _screen(view: _View, problem: str, sort: str, width: int, height: int) -> RenderableType:
    nodes, packets, octets = view.nodes()
    rows = view.rows(sort)
    head = Text(overflow="ellipsis", no_wrap=True)
    head.append("ayaflow top ", style="bold")
    head.append(
        f"{len(rows)} connections by {sort}  {nodes} node{'' if nodes == 1 else 's'}  "
        f"{tables.human(packets)}packets/s  {tables.human_bytes(octets)}/s"
    )
    if text := names.listed(rows):
        head.append(f"  {text}", style="dim")
    head.append(f"  {view.complete()}", style="dim")
    foot = Text(
        plain(problem) or "b bytes  p packets  r rate  q quit",
        style="yellow" if problem else "dim",
        overflow="ellipsis",
        no_wrap=True,
    )
    return Group(head, table(rows[: max(1, height - 4)], width), foot)


def table(rows: Sequence[Row], width: int | None = None) -> Table:
    """A rich table of connections; the node is a column where there are several. `width`: what it must fit into."""
    several = len({row["node"] for row in rows}) > 1
    named = any(map(names.has_name, rows))
    columns = [
        *(["node"] if several else []),
        "if",
        "dir",
        "proto",
        "source",
        "destination",
        *(["name"] if named else []),
        "packets",
        "bytes",
        "bytes back",
        "packets/s",
        "bytes/s",
    ]
    cells = [_cells(row, node=several, named=named) for row in rows]
    numbers = [name not in _WORDS for name in columns]
    return tables.fitting(columns, cells, numbers=numbers, width=width, dispensable=_DISPENSABLE)[0]


def _cells(row: Row, *, node: bool, named: bool) -> list[str]:
    return [
        *([short(row["node"])] if node else []),
        short(row["interface"]),
        {"ingress": "in", "egress": "out"}[row["direction"]],
        row["protocol_name"],
        endpoint(row["src_addr"], row["src_port"]),
        endpoint(row["dst_addr"], row["dst_port"]),
        *([names.name(row)] if named else []),
        tables.human(row["packets"] + row["packets_rev"]).strip(),
        tables.human_bytes(row["bytes"]),
        tables.human_bytes(row["bytes_rev"]),
        tables.human(row["packets_per_second"]).strip(),
        tables.human_bytes(row["bytes_per_second"]),
    ]


@contextlib.contextmanager
def _keys(stop: Stop) -> Iterator[Callable[[float], str]]:
    """A function that waits for a key or `stop`; empty when no key came. The terminal is as before afterwards."""
    try:
        number = sys.stdin.fileno()
        before = termios.tcgetattr(number)
    except (termios.error, OSError, ValueError):  # no keyboard: standard input is a pipe

        def wait(seconds: float) -> str:
            stop.wait(seconds)
            return ""

        yield wait
        return

    def pressed(seconds: float) -> str:
        return os.read(number, 1).decode(errors="replace").lower() if stop.wait(seconds, [number]) else ""

    tty.setcbreak(number)
    try:
        yield pressed
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
