"""The terminal view as text, on a recording console."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from deploy.local.up.view import StageLine, View, duration, render

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STAGES = tuple(
    StageLine(name=name, state="ready", age_seconds=65, restarts=0, rss_mb=100, message="")
    for name in ("kafka", "clickhouse", "streams", "producer", "console")
)


def stats(flows: int = 60, interfaces: int = 1) -> dict[str, Any]:
    return {
        "node": "n",
        "time": NOW - timedelta(seconds=1.5),
        "interval_ms": 2000,
        "active_flows": flows,
        "open_windows": 2,
        "lag_messages": 3,
        "interfaces": [
            {
                "interface": f"eth{number}",
                "direction": direction,
                "packets": 3000,
                "bytes": 4_000_000,
                "primary_packets": 3000,
                "primary_bytes": 4_000_000,
                "non_ip_packets": 5,
                "malformed_packets": 6,
                "unknown_link_packets": 0,
                "ring_full_packets": 77,
            }
            for number in range(interfaces)
            for direction in ("ingress", "egress")
        ],
        "top": [
            {
                "interface": "eth0",
                "direction": "egress",
                "protocol": 6,
                "src_addr": "2001:db8::1",
                "dst_addr": "10.0.0.1",
                "src_port": 40_000 + number,
                "dst_port": 443,
                "packets": 5,
                "bytes": 1000 * number,
                "packets_rev": 1,
                "bytes_rev": 7,
            }
            for number in range(flows)
        ],
    }


def view(**changes: Any) -> View:
    return replace(
        View(
            node="n",
            url="http://127.0.0.1:8080",
            data_dir="/data",
            uptime_seconds=3700,
            now=NOW,
            stages=STAGES,
            live={},
            problem="",
            note="",
        ),
        **changes,
    )


def draw(what: View, width: int, height: int) -> list[str]:
    console = Console(file=StringIO(), record=True, width=width, height=height)
    console.print(render(what, width=width, height=height))
    return console.export_text().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 40), (80, 8), (20, 5), (300, 100)])
def test_it_fits_the_terminal(width: int, height: int) -> None:
    lines = draw(view(live={"n": stats(), "m": stats(interfaces=30)}), width, height)
    assert len(lines) <= max(height, 8)  # the stages are always shown
    assert max(map(len, lines)) <= width


def test_rates_drops_and_the_largest_flows_are_shown() -> None:
    text = "\n".join(draw(view(live={"n": stats()}), 140, 40))
    assert "up 1h 1m" in text
    assert "1.5 k" in text  # 3000 packets in 2 s
    assert "2.0 MB" in text
    assert "77" in text
    assert "delay 1.5 s; lag 3 messages" in text
    assert "[2001:db8::1]:40059 → 10.0.0.1:443" in text
    assert text.index(":40059") < text.index(":40058")


def test_a_stage_that_is_not_well_says_why() -> None:
    broken = replace(STAGES[2], state="waiting", restarts=4, message="starts again in 8 s: ClickHouse [is] away")
    text = "\n".join(draw(view(stages=(*STAGES[:2], broken, *STAGES[3:])), 140, 40))
    assert "starts again in 8 s: ClickHouse [is] away" in text


def test_what_is_old_is_not_shown_as_now() -> None:
    old = stats()
    old["time"] = NOW - timedelta(minutes=5)
    text = "\n".join(draw(view(live={"n": old}), 140, 40))
    assert "eth0" not in text
    assert "no traffic summary yet" in text


def test_a_problem_of_reading_is_shown_with_and_without_data() -> None:
    problem = "cannot read ayaflow.live: Local: Broker transport failure"
    assert problem in "\n".join(draw(view(problem=problem), 140, 40))
    assert problem in "\n".join(draw(view(problem=problem, live={"n": stats()}), 160, 40))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.9, "59s"), (60, "1m 0s"), (3_725, "1h 2m"), (90_061, "1d 1h"), (-3, "0s")]
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_names_of_others_and_what_parts_say_do_nothing_to_the_terminal() -> None:
    hostile = "\x1b]0;title\x07\u202e\x9b2J\u2028"
    one, other = stats(flows=3), stats(flows=3)
    one["interfaces"][0]["interface"] = hostile + "[red]x[/red]" + "x" * 400
    stages = (replace(STAGES[0], message=hostile, state="not well"), *STAGES[1:])
    lines = draw(view(live={"n": one, hostile: other}, stages=stages, problem=hostile), 300, 60)
    assert all(line.isprintable() for line in lines)
    assert any("\\x1b]0;title\\x07\\u202e\\x9b2J\\u2028[red]x[/red]xxx" in line for line in lines)
    assert "not well" in str(lines)
