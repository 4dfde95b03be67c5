"""What the README and the API show of a router: each packet once, though it passes two watched interfaces."""

import json
import shlex
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.consumers.site import Site, watched
from tests.faults import check
from tests.faults.installation import CLICKHOUSE, CONSOLE
from tests.fix_local import REPOSITORY
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.kafka, pytest.mark.clickhouse]

PORT = 45_678
FILTER = f"port = {PORT}"
README = (Path(REPOSITORY) / "README.md").read_text()


def get(path: str, **parameters: str) -> Any:
    """An answer of the API."""
    url = f"http://127.0.0.1:{CONSOLE}{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        text = answer.read().decode()
    return [json.loads(line) for line in text.splitlines()] if path == "/api/flows" else json.loads(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """Traffic of one flow."""

    times: int  # packets there, and as many back
    once: int  # all of them
    begin: int  # Unix time
    before: dict[str, Any]  # /api/stats
    top: list[dict[str, Any]]  # what was shown while it lasted
    live: list[dict[str, Any]]


def volume(rows: list[dict[str, Any]]) -> int:
    return sum(int(row["packets"]) + int(row["packets_rev"]) for row in rows)


def _passages(here: Site, passed: "Passed") -> list[dict[str, Any]]:
    """What hooks and devices counted of each passage, should these differ: then it is not the question's fault."""
    return here.system.rows(
        "SELECT interface, direction, primary, sum(seen_packets) AS seen, sum(device_packets) AS device, "
        "sum(unseen_packets) AS unseen, count() AS epochs FROM ledger FINAL "
        f"WHERE end_time >= toDateTime({passed.begin}) GROUP BY ALL ORDER BY ALL"
    )


@pytest.fixture(scope="module")
def passed(here: Site) -> Passed:
    """A known number of packets has passed, and is stored."""
    system = here.system
    system.parts["producer"].release()
    system.until(lambda: system.ready() and watched(system, here.router), "the producer runs again")
    begin, before = int(time.time()) // 2 * 2, get("/api/stats")
    with here.router.exchange(PORT) as sent:
        until(lambda: get("/api/live", filter=FILTER)["connections"])
        shown = system.ayaflow("top", FILTER, "--once", "--format", "json")
        live = get("/api/live", filter=FILTER)["connections"]
    system.parts["producer"].stop()
    code, report = check.audit(system, wait=120)
    assert code == 0, report["message"]
    assert shown.returncode == 0, shown.stderr
    top = json.loads(shown.stdout)["connections"]
    return Passed(times=sent[0], once=2 * sent[0], begin=begin, before=before, top=top, live=live)


def test_stored_flows_have_each_packet_once(here: Site, passed: Passed) -> None:
    listed = here.system.ayaflow("flows", FILTER, "--since", "1h", "--limit", "0", "--format", "json")
    assert listed.returncode == 0, listed.stderr
    assert volume([json.loads(line) for line in listed.stdout.splitlines()]) == passed.once
    assert volume(get("/api/flows", filter=FILTER, limit="0")) == passed.once
    assert volume(get("/api/history", filter=FILTER, limit="1000")["flows"]) == passed.once


def test_who_asks_where_packets_passed_gets_each_passage(here: Site, passed: Passed) -> None:
    for each in ('interface ~ "ayr"', "direction in (ingress, egress)", "primary in (0, 1)"):
        rows = get("/api/flows", filter=f"{FILTER} and {each}", limit="0")
        assert volume(rows) == 2 * passed.once, (each, rows, _passages(here, passed))
    assert volume(get("/api/flows", filter=f"{FILTER} and direction = egress", limit="0")) == passed.once
    top = get("/api/top", filter=FILTER, by="interface,direction")
    assert [volume([row]) for row in top["rows"]] == [passed.once, passed.once]
    assert {row["interface"] for row in top["rows"]} == set(here.router.ends)


@pytest.mark.parametrize("by", ["protocol", "src_addr", "pair", "node", "src_port"])
def test_sums_have_each_packet_once(here: Site, passed: Passed, by: str) -> None:
    top = get("/api/top", filter=FILTER, by=by)
    assert volume([top["total"]]) == passed.once
    series = get("/api/series", filter=FILTER, by=by, measure="packets")
    assert sum(value or 0 for one in series["series"] for value in one["values"]) == passed.once


def test_totals_are_those_of_the_ledger(here: Site, passed: Passed) -> None:
    """The README's own commands, and what the API says of a node."""
    packets, octets = (
        here.system.rows(f"SELECT sum(emitted_{of} + coalesced_{of}) AS n FROM ledger FINAL WHERE primary")[0]["n"]
        for of in ("packets", "bytes")
    )
    query, curl = (
        shlex.split(line.partition("#")[0].removeprefix("$ "))
        for start in ("$ ayaflow query '", "$ curl 'http://127.0.0.1:8123/' --data '")
        for line in README.splitlines()
        if line.startswith(start)
    )
    assert query[0] == "ayaflow"
    said = here.system.ayaflow(*query[1:], "--format", "csv")
    assert sum(int(line.split(",")[1]) for line in said.stdout.splitlines()[1:]) == packets
    (line,) = said.stderr.splitlines()  # and no word of packets that are counted twice
    assert line.endswith("all of it is settled")
    assert "WHERE primary" in curl[3]
    asked = urllib.parse.urlencode({"database": "ayaflow", "query": curl[3].partition(" ORDER BY ")[0]})
    with urllib.request.urlopen(f"http://127.0.0.1:{CLICKHOUSE}/?{asked}", timeout=60) as answer:
        assert sum(int(line.split(b"\t")[2]) for line in answer.read().splitlines()) == octets
    (node,) = get("/api/nodes", since="1h")["nodes"]
    assert (node["packets"], node["bytes"]) == (packets, octets)
    assert set(here.router.ends) < set(node["interfaces"])


def test_what_is_live_has_each_packet_once(here: Site, passed: Passed) -> None:
    """Counts of a connection are estimates; those of all that passed are not."""
    for shown in (passed.top, passed.live):
        (row,) = shown
        assert 0 < row["packets"] <= passed.times, row
        assert 0 < row["packets_rev"] <= passed.times, row
    stored = here.system.rows(
        "SELECT sum(packets + packets_rev) AS packets, sum(bytes + bytes_rev) AS bytes FROM flows "
        f"WHERE primary AND window_begin >= toDateTime({passed.begin})"
    )[0]
    assert stored["packets"] >= passed.once

    def more() -> dict[str, int]:
        now = get("/api/stats")
        return {of: now[f"{of}_total"] - passed.before[f"{of}_total"] for of in ("packets", "bytes")}

    until(lambda: more() == stored, lambda: (more(), stored))
