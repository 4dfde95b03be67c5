"""Three brokers under traffic: killed and restarted, one after the other and two at a time; frozen. Long form."""

import os
import random
import time
from functools import partial

import pytest

from tests.faults import check, cluster, frozen, results
from tests.faults.auditing import Auditing
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


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("workers", [1, 3])
def test_two_of_three_brokers_are_frozen_and_thawed_again_and_again(workers: int) -> None:
    seed = int(os.environ.get("FIRST_SEED", "1"))
    dice = random.Random(f"frozen {seed} {workers}")
    freezes = [dice.uniform(30, 60), dice.uniform(30, 60), dice.uniform(60, 90), 120]
    dice.shuffle(freezes)
    with installation(workers=workers, brokers=3) as system:
        system.until(lambda: cluster.whole(system.kafka), "all replicas in sync")
        with Sender(system.sends, rate=3_000) as sender, Auditing(system) as auditing:
            for seconds in freezes:
                unsettled, outcry = auditing.unsettled, frozen.Outcry(system)
                with frozen.two_brokers(system, dice):
                    end = time.monotonic() + seconds
                    while time.monotonic() < end:
                        system.mind(1)
                        silent = outcry.silent
                    assert frozen.audit_speaks_of_kafka(system)
                assert not silent, f"of {seconds:.0f} s without Kafka these said nothing: {silent}"
                assert seconds < 120 or auditing.unsettled > unsettled
                if dice.random() < 0.7:  # else again before all replicas are in sync
                    system.until(lambda: cluster.whole(system.kafka), "all replicas in sync again")
                system.mind(dice.uniform(1, 10))
        found = check.exact(system, sender.totals())
        assert auditing.alarms == []
        results.record(
            "three brokers",
            f"two of three frozen four times, {workers} worker{'s' if workers > 1 else ''}",
            seed=seed,
            seconds_frozen=[round(each) for each in freezes],
            sent=sender.stop().packets,
            stored=found.packets,
            settled_after_s=found.settle_seconds,
            audits_meanwhile=auditing.exact,
            audits_not_settled=auditing.unsettled,
            ended_by_itself=dict(system.restarts()),
            deaths=system.deaths(),
        )
