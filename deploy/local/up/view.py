"""The live terminal view of `ayaflow up`: a state in, something that rich can draw out. Pure.

It never needs more than the given number of lines: what does not fit is left out from the bottom.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from common.plain import plain, short
from console.query.vocabulary import protocol_name
from console.show.tables import human, human_bytes

STALE_SECONDS = 10.0
"""A node whose newest message is older says nothing about now."""

_STYLES = {
    "ready": "green",
    "starting": "yellow",
    "waiting": "yellow",
    "not well": "red",
    "stopping": "yellow",
    "stopped": "dim",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLine:
    """One part of the system."""

    name: str
    state: str
    age_seconds: float  # in this state
    restarts: int
    rss_mb: int | None  # of its processes, None: it does not run
    message: str  # what is wrong, a sentence; empty: nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that is shown."""

    node: str
    url: str
    data_dir: str
    uptime_seconds: float
    now: datetime  # UTC
    stages: tuple[StageLine, ...]
    live: Mapping[str, Mapping[str, Any]]  # node -> its newest LiveStats
    problem: str  # of reading the live topic; empty: none
    note: str  # a last line, such as "stopping"


def render(view: View, *, width: int, height: int) -> RenderableType:
    """Draw it for a terminal of width x height characters."""
    parts: list[RenderableType] = [_header(view)]
    stages = _stages(view.stages, width)
    parts.append(stages)
    left = height - 1 - (stages.row_count + 1) - 1  # header, the stages with their head, the last line
    fresh = {
        node: stats
        for node, stats in view.live.items()
        if _age(stats, view.now) <= STALE_SECONDS + stats["interval_ms"] / 1000
    }
    if left >= 3 and fresh:
        rows = [(node, one) for node, stats in sorted(fresh.items()) for one in stats["interfaces"]]
        table = _interfaces(fresh, rows[: max(1, min(len(rows), left // 2 - 1))])
        parts += [table, _summary(view, fresh)]
        left -= table.row_count + 2
        flows = sorted((flow for stats in fresh.values() for flow in stats["top"]), key=_volume, reverse=True)
        if left >= 2 and flows:
            parts.append(_flows(flows[: left - 1]))
    elif left >= 1:
        parts.append(Text(plain(view.problem) or _silence(view), style="yellow", overflow="ellipsis", no_wrap=True))
    parts.append(Text(view.note or "Ctrl-C stops everything", style="dim", overflow="ellipsis", no_wrap=True))
    return Group(*parts)


def duration(seconds: float) -> str:
    """90061 -> `1d 1h`; two units at most."""
    whole = max(0, int(seconds))
    for unit, below, size in (("d", "h", 86_400), ("h", "m", 3600), ("m", "s", 60)):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // {'h': 3600, 'm': 60, 's': 1}[below]}{below}"
    return f"{whole}s"


def _header(view: View) -> Text:
    text = Text(overflow="ellipsis", no_wrap=True)
    text.append("ayaflow ", style="bold")
    text.append(f"{view.node}  ")
    text.append(view.url, style="cyan")
    text.append(f"  up {duration(view.uptime_seconds)}  {view.data_dir}", style="dim")
    return text


def _grid(*columns: tuple[str, str]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", expand=False)
    for name, justify in columns:
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True, overflow="ellipsis")
    return table


def _stages(stages: Sequence[StageLine], width: int) -> Table:
    table = _grid(
        ("stage", "left"), ("state", "left"), ("for", "right"), ("restarts", "right"), ("MB", "right"), ("", "left")
    )
    table.columns[-1].max_width = max(10, width - 48)
    for stage in stages:
        style = _STYLES.get(stage.state, "")
        restarts = Text(str(stage.restarts), style="red" if stage.restarts else "")
        table.add_row(
            stage.name,
            Text(stage.state, style=style),
            duration(stage.age_seconds),
            restarts,
            "" if stage.rss_mb is None else str(stage.rss_mb),
            Text(plain(" ".join(stage.message.split())), style=style),
        )
    return table


def _interfaces(fresh: Mapping[str, Mapping[str, Any]], rows: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    table = _grid(
        ("interface", "left"),
        ("", "left"),
        ("packets/s", "right"),
        ("bytes/s", "right"),
        ("dropped", "right"),
        ("not IP", "right"),
        ("malformed", "right"),
        ("unknown link", "right"),
    )
    for node, one in rows:
        seconds = max(fresh[node]["interval_ms"], 1) / 1000
        name = short(one["interface"]) if len(fresh) == 1 else f"{short(node)} {short(one['interface'])}"
        dropped = one["ring_full_packets"]
        table.add_row(
            Text(name),
            one["direction"],
            human(one["packets"] / seconds),
            human_bytes(one["bytes"] / seconds),
            Text(human(dropped), style="bold red" if dropped else ""),
            human(one["non_ip_packets"]),
            human(one["malformed_packets"]),
            human(one["unknown_link_packets"]),
        )
    return table


def _summary(view: View, fresh: Mapping[str, Mapping[str, Any]]) -> Text:
    delay = max(_age(stats, view.now) for stats in fresh.values())
    lag = max(stats["lag_messages"] for stats in fresh.values())
    text = Text(overflow="ellipsis", no_wrap=True)
    text.append(
        f"{human(sum(stats['active_flows'] for stats in fresh.values()))} flows in "
        f"{sum(stats['open_windows'] for stats in fresh.values())} open windows; delay {delay:.1f} s; "
    )
    text.append(f"lag {human(lag).strip()} messages", style="yellow" if lag > 10 else "")
    if view.problem:
        text.append(f"; {plain(view.problem)}", style="yellow")
    return text


def _flows(flows: Sequence[Mapping[str, Any]]) -> Table:
    table = _grid(
        ("proto", "left"),
        ("from", "left"),
        ("", "left"),
        ("to", "left"),
        ("packets", "right"),
        ("bytes", "right"),
        ("bytes back", "right"),
    )
    for flow in flows:
        table.add_row(
            protocol_name(flow["protocol"]),
            _end(flow["src_addr"], flow["src_port"]),
            "→",
            _end(flow["dst_addr"], flow["dst_port"]),
            human(flow["packets"] + flow["packets_rev"]),
            human_bytes(flow["bytes"]),
            human_bytes(flow["bytes_rev"]),
        )
    return table


def _end(address: str, port: int) -> Text:
    return Text(address if not port else f"[{address}]:{port}" if ":" in address else f"{address}:{port}")


def _volume(flow: Mapping[str, Any]) -> int:
    return int(flow["bytes"]) + int(flow["bytes_rev"])


def _age(stats: Mapping[str, Any], now: datetime) -> float:
    moment: datetime = stats["time"]
    return max(0.0, (now - moment).total_seconds())


def _silence(view: View) -> str:
    if all(stage.state == "ready" for stage in view.stages):
        return "no traffic summary yet: the first comes when streams has read a second of packets"
    return "starting"
