"""What `ayaflow names` says in a table and a sentence."""

import io
from typing import Any

import pytest
from rich.console import Console

from console.show import names, tables

ALL = {"bytes": 1_000_000, "packets": 900, "records": 30}
TIMES = {"latency_us_p50": 900, "latency_us_p90": 12_345, "latency_us_p99": 250_000, "latency_us_max": 4_294_967_295}
FLOWS = {"packets": 1_000, "bytes": 100_000, "packets_rev": 500, "bytes_rev": 400_000, "records": 12}
OUTCOMES = {"transactions": 40, "failures": 3, "unanswered": 2}
ROWS: dict[str, dict[str, Any]] = {
    "domains": {"domain": "www.example.org", "sources": ["dns", "sni"], "clients": 3, "servers": 2, **FLOWS},
    "queries": {
        "name": "a.example", "qtype": "AAAA", **OUTCOMES, "clients": 3, "servers": 1, **TIMES,
        "answers": ["::1", "b.example"],
    },
    "failures": {
        "name": "nowhere.example", "qtype": "A", "rcode": "NXDOMAIN", **OUTCOMES, "clients": 2, "servers": 1,
        "server": "10.0.0.53", "last": "2026-05-01T12:00:00Z",
    },
    "latency": {"server": "10.0.0.53", **OUTCOMES, "clients": 5, **TIMES},
    "unseen": {"node": "gateway-1", "client": "10.0.0.7", **FLOWS, "named_bytes": 250_000},
}  # fmt: skip


def shown(view: str, *rows: dict[str, Any], width: int | None = None, utc: bool = True) -> list[str]:
    out = io.StringIO()
    if width is None:
        tables.show(names.table(view, rows, ALL, width, utc=utc), out)
    else:
        Console(file=out, width=width).print(names.table(view, rows, ALL, width, utc=utc))
    return out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("view", "line"),
    [
        ("domains", "www.example.org dns sni 3 2 12 1.5 k 500 kB 50.0 %"),
        ("queries", "a.example AAAA 40 3 2 3 1 0.9 ms 12.3 ms 250 ms 4294967 ms ::1 b.example"),
        ("failures", "nowhere.example A NXDOMAIN 40 2 10.0.0.53 2026-05-01T12:00:00Z"),
        ("latency", "10.0.0.53 40 3 2 5 0.9 ms 12.3 ms 250 ms 4294967 ms"),
        ("unseen", "gateway-1 10.0.0.7 12 1.5 k 500 kB 50.0 %"),
    ],
)
def test_each_view_is_a_table(view: str, line: str) -> None:
    assert " ".join(shown(view, ROWS[view])[1].split()) == line


@pytest.mark.parametrize("view", ROWS)
@pytest.mark.parametrize("width", [30, 60, 120])
def test_a_narrow_terminal_goes_without_columns(view: str, width: int) -> None:
    assert all(len(line) <= width for line in shown(view, ROWS[view], width=width))


def test_names_do_nothing_to_the_terminal() -> None:
    evil = ROWS["domains"] | {"domain": "\x1b[2Ja\u202eb.example"}
    (line,) = shown("domains", evil)[1:]
    assert line.isprintable()
    assert "\\u202e" in line


def test_what_was_never_answered_has_no_time() -> None:
    nothing = dict.fromkeys(TIMES)
    assert shown("latency", ROWS["latency"] | nothing)[1].split()[-4:] == ["-"] * 4


def share(named: int, total: int, **sources: int) -> dict[str, Any]:
    return {
        "total": {"bytes": total},
        "named": {"bytes": named},
        "by_source": {source: {"bytes": some} for source, some in sources.items()},
    }


def test_the_share_is_said_to_the_byte_and_never_rounded_to_all_or_nothing() -> None:
    said = names.sentence(share(931, 1_000, dns=131, sni=800))
    assert said == "93.1 % of 1.0 kB have a name (931 of 1,000 bytes): sni 80.0 %, dns 13.1 %"
    assert names.sentence(share(1_000, 1_000, sni=1_000)).startswith("100.0 % of")
    assert names.sentence(share(10**9 - 1, 10**9)).startswith("> 99.9 % of")
    assert names.sentence(share(1, 10**9)).startswith("< 0.1 % of")
    assert names.sentence(share(0, 0)) == "no flows in this time match"


def test_of_rows_that_are_listed_the_share_is_theirs() -> None:
    row = {"bytes": 300, "bytes_rev": 0, "domain": "", "domain_source": ""}
    assert names.listed([row]) == ""
    assert names.share_of([row]) == {"total": {"bytes": 300}, "named": {"bytes": 0}, "by_source": {}}
    named = [row | {"domain": "a.example", "domain_source": source, "bytes_rev": 1} for source in ("sni", "reverse")]
    assert names.share_of([row, *named]) == {
        "total": {"bytes": 902},
        "named": {"bytes": 602},
        "by_source": {"reverse": {"bytes": 301}, "sni": {"bytes": 301}},
    }
    assert names.listed([row, row | {"domain": "a.example", "bytes_rev": 400}]) == (
        "70.0 % of the bytes that are listed have a name (700 of 1,000 bytes)"
    )
