"""After the faults: what is stored is what was sent, and the audit says so."""

import json
import time
from dataclasses import dataclass
from typing import Any

from tests.faults.installation import SETTLE_SECONDS, STREAMS, Installation
from tests.faults.traffic import Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of a run."""

    packets: int
    bytes: int
    coalesced: int
    settle_seconds: float
    audit: dict[str, Any]


def stored(system: Installation) -> Totals:
    """Packets and bytes of the node by source port."""
    rows = system.rows(
        "SELECT src_port, sum(packets + packets_rev) AS p, sum(bytes + bytes_rev) AS b FROM flows "
        f"WHERE node = '{system.node}' GROUP BY src_port"
    )
    return {row["src_port"]: (row["p"], row["b"]) for row in rows}


def audit(system: Installation, *, wait: float = 0) -> tuple[int, dict[str, Any]]:
    """`ayaflow audit` of the node -> exit code, its JSON. Raises AssertionError when it has none."""
    done = system.ayaflow(
        "audit", "--node", system.node, "--format", "json", *(("--wait", f"{wait:g}") if wait else ())
    )
    assert done.stdout, done.stderr + system.logs()
    return done.returncode, json.loads(done.stdout)


def exact(system: Installation, sent: Totals, *, seconds: float = SETTLE_SECONDS) -> Found:
    """Wait until all is stored; the totals by port are the sender's, the audit is exact, no ring has a gap."""
    begin = time.monotonic()
    system.until(system.ready, "all parts well again")
    wanted = sum(packets for packets, _ in sent.values())

    def arrived() -> bool:
        return sum(packets for packets, _ in stored(system).values()) >= wanted

    end = begin + seconds
    while not arrived() and time.monotonic() < end:
        system.mind(0.3)
    code, report = audit(system, wait=60)
    settle = time.monotonic() - begin
    system.mind()
    found = stored(system)
    differing = {
        port: (sent.get(port), found.get(port)) for port in sorted({*sent, *found}) if sent.get(port) != found.get(port)
    }
    have = sum(packets for packets, _ in found.values())
    assert not differing, (
        f"{len(differing)} of {len(sent)} ports differ, {have:,} of {wanted:,} packets are stored: (sent, stored) "
        f"{dict(list(differing.items())[:5])}; the audit: {report['message']}\n{_state(system)}\n{system.logs()}"
    )
    assert code == 0, f"{report['message']}\n{_state(system)}\n{system.logs()}"
    assert report["losses"] == []
    rows = report["rows"]
    assert sum(row["seen_packets"] for row in rows) == wanted
    assert sum(row["ring_full_packets"] for row in rows) == 0
    return Found(
        packets=have,
        bytes=sum(octets for _, octets in found.values()),
        coalesced=sum(row["coalesced_packets"] for row in rows),
        settle_seconds=round(settle, 1),
        audit=report,
    )


def _state(system: Installation) -> str:
    return "\n".join(str(system.health(STREAMS + i)) for i in range(len(system.streams)))
