"""Names from the wire to Kafka, by a producer that inspects payload: each once, also when it is killed."""

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from schemas.avro.codec import Codec
from schemas.names import NOTHING, NameBatch
from tests.e2e.fix_producer import Node, batches_of, check_ledger, stop
from tests.e2e.resolver import COPIES, Resolver
from tests.e2e.test_producer_death import made, sent_to
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.kafka]


def names_of(bootstrap: str, node: Node) -> list[NameBatch]:
    return [Codec().decode_name_batch(value) for value in batches_of(bootstrap, node, "ayaflow.names")]


def lost(batches: list[NameBatch]) -> int:
    """Copies of a ring that its messages do not account for."""
    missing, before = 0, 0
    for batch in batches:
        missing += before + batch.copies - int(batch.row_copies.sum()) - batch.unused_copies - batch.open_copies
        before = batch.open_copies
    return missing + before


@pytest.mark.parametrize("detail", ["packet", "flow"])
def test_killed_at_any_moment_each_name_is_there_once(
    detail: str, kafka_broker: str, bpffs: Path, tmp_path: Path
) -> None:
    dice = random.Random(f"names {detail}")
    settings = {"capture_detail": detail, "capture_inspect": True}
    with made(bpffs, tmp_path, kafka_broker, **settings) as (node, pair):
        process = node.start()
        node.wait_for(process)
        with Resolver(pair, 200) as sender:
            for _ in range(4):
                time.sleep(dice.uniform(0.1, 0.8))
                process = node.killed_and_started(process, dice.uniform(0, 0.5))
            until(lambda: 'ayaflow_producer_names_total{kind="tls",status="named"}' in node.metrics(), node.metrics)
        assert stop(process) == 0
        assert not node.pin_directory.exists()
    packets, names = sent_to(kafka_broker, node), names_of(kafka_broker, node)
    check_ledger(packets)
    rows = Counter(batch.names[place] for batch in names for place in batch.name.tolist() if place != NOTHING)
    assert rows == Counter(sender.names)
    assert all((batch.status == 0).all() for batch in names)
    assert all((batch.latency_us[batch.kind == 0] >= 0).all() for batch in names)  # each answer found its question
    # and all is counted: by the kernel, and from message to message
    sums = Counter[str]()
    for row in (row for batch in packets for row in batch.counters):
        for name in ("inspected", "copied", "skipped_ring_full", "skipped_over_budget", "skipped_table_full"):
            sums[name] += getattr(row, f"{name}_packets")
    assert sums["inspected"] == sums["copied"] == COPIES * len(sender.names) // 2
    assert sum(batch.copies for batch in names) == sums["copied"]
    assert [batch.ring_start for batch in names] == [0, *(batch.ring_end for batch in names[:-1])]
    assert lost(names) == 0
    epochs = Counter[int]()
    for batch in names:
        epochs.update(dict(zip(batch.epoch.tolist(), batch.epoch_copies.tolist(), strict=True)))
    counted = Counter[int]()
    for row in (row for batch in packets for row in batch.counters):
        counted[row.epoch] += row.copied_packets
    assert epochs == +counted
    # and names are on their flows
    on_flows = {domain for batch in packets for domain in batch.domains}
    assert on_flows <= set(sender.names)
    hellos = {name for name in sender.names if name.startswith("t")}
    assert len(on_flows & hellos) > 0.9 * len(hellos)
