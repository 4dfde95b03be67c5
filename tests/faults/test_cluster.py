"""Three brokers: each is killed, and restarted cleanly, one after the other under traffic; then two. Long form."""

import time
from functools import partial

import pytest

from tests.faults import check, cluster, results
from tests.faults.installation import installation
from tests.faults.traffic import Sender

pytestmark = [pytest.mark.root, pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.faults]


@pytest.mark.timeout(900)
def test_leaders_die_and_restart_one_after_the_other() -> None:
    with installation(workers=3, brokers=3) as system:
        system.until(lambda: cluster.whole(system.kafka), "all replicas in sync")
        changes, begin = 0, time.monotonic()
        with Sender(system.sends, rate=5_000) as sender:
            for clean in (False, True):
                for number in range(1, cluster.BROKERS + 1):
                    system.mind(3)
                    before = cluster.leaders(system.kafka)
                    broker = system.parts[f"kafka-{number}"]
                    if clean:
                        assert broker.stop() in {0, 143}
                    else:
                        broker.kill()
                    system.mind(3)
                    system.until(partial(cluster.led_by_others, system.kafka, number), "other leaders")
                    after = cluster.leaders(system.kafka)
                    changes += sum(before[partition] != after[partition] for partition in before)
                    broker.release()
                    system.until(lambda: cluster.whole(system.kafka), "all replicas in sync again")
            system.mind(2)
            for number in (1, 2):  # one is left: too few to take a message
                system.parts[f"kafka-{number}"].kill()
            system.mind(8)
            for number in (1, 2):
                system.parts[f"kafka-{number}"].release()
            system.until(lambda: cluster.whole(system.kafka), "all replicas in sync again")
            system.mind(2)
        seconds = time.monotonic() - begin
        assert changes >= cluster.BROKERS
        found = check.exact(system, sender.totals())
        results.record(
            "three brokers",
            "kill -9, then a clean restart, of each; then two of three killed",
            seconds=round(seconds),
            leader_changes=changes,
            sent=sender.stop().packets,
            stored=found.packets,
            settled_after_s=found.settle_seconds,
            ended_by_itself=dict(system.restarts()),
        )
