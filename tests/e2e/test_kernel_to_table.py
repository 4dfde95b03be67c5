"""Producer and streams killed in turn under traffic: SQL totals are the sender's, and the audit is exact."""

import random
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.fix_producer import stop
from tests.e2e.test_producer_death import Sender, made
from tests.integration.fix_streams import pipeline

pytestmark = [pytest.mark.root, pytest.mark.kafka, pytest.mark.clickhouse]


@pytest.mark.wide  # in make test each part is killed, among all else, by tests/faults/test_short.py
@pytest.mark.parametrize("detail", ["packet", "flow"])
def test_totals_and_audit_are_exact_after_kills_of_producer_and_streams(
    detail: str, kafka_broker: str, clickhouse_server: str, bpffs: Path, tmp_path: Path
) -> None:
    dice = random.Random(f"table {detail}")
    with (
        pipeline(kafka_broker, clickhouse_server) as p,
        made(
            bpffs, tmp_path, kafka_broker, capture_detail=detail, capture_loader="bcc", kafka_topic_prefix=p.prefix
        ) as (node, pair),
    ):
        p.start()
        process = node.start()
        node.wait_for(process)
        with Sender(pair, 10_000) as sender:
            for _ in range(2):
                time.sleep(dice.uniform(0.2, 1.5))
                process = node.killed_and_started(process, dice.uniform(0, 1))
                time.sleep(dice.uniform(0.2, 2))
                p.stop(signal.SIGKILL)
                p.start()
        assert stop(process) == 0
        p.until(lambda: p.stored_packets() >= 2 * sender.packets)
        p.until(lambda: p.audit()[1]["nodes"][0]["settled_until"] is None)  # it ended: for good
        code, report = p.audit()
        assert (code, report["exact"]) == (0, True), report["message"]
        assert p.stored_packets() == 2 * sender.packets
        assert p.count("SELECT sum(bytes + bytes_rev) FROM flows") == 2 * sender.octets
        rows = report["rows"]
        emitted, coalesced = (sum(row[f"{name}_packets"] for row in rows) for name in ("emitted", "coalesced"))
        assert emitted + coalesced == 2 * sender.packets
        # while no producer reads, the ring may fill, and the kernel adds up by flow what follows
        assert emitted == 0 if detail == "flow" else emitted > 0
        assert p.stop() == 0
