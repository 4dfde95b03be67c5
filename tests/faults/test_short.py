"""The short forms of the fault tests, part of make test: each part is killed, stopped, answers badly, in a minute."""

import random
import time

import pytest

from tests.faults import check, cluster, frozen
from tests.faults.faults import FAULTS, Planned, Runner
from tests.faults.installation import installation
from tests.faults.traffic import Sender, totals

SEED = 5
# left to the long form: they take time
LONG = {"kill all", "stop console", "kafka disk full", "restart console", "restart clickhouse", "restart kafka"}


@pytest.mark.root
@pytest.mark.kafka
@pytest.mark.clickhouse
def test_everything_fails_once_and_all_is_stored_once() -> None:
    """Kafka's faults first: what they delay is what the others then meet."""
    dice = random.Random(SEED)
    names = [name for name in FAULTS if name not in LONG]
    dice.shuffle(names)
    names.sort(key=lambda name: "kafka" not in name and "spool" not in name)
    planned = [
        Planned(at=1 + 1.3 * i, seconds=2.5 if "spool" in name else 1.0, name=name) for i, name in enumerate(names)
    ]
    with installation(workers=2, disks=True, capture={"ring_bytes": 1 << 18}) as system:
        runner = Runner(system, dice)
        with Sender(system.sends, rate=4_000) as sender:
            runner.run(planned, clock=time.monotonic)
            system.mind(1)
        assert len(runner.happened) == len(names)
        found = check.exact(system, sender.totals())
        assert found.packets == sender.stop().packets


@pytest.mark.root
@pytest.mark.kafka
@pytest.mark.clickhouse
@pytest.mark.wide
def test_two_of_three_brokers_are_frozen_and_thawed() -> None:
    """Until everybody has said so, and the audit too."""
    dice = random.Random(SEED)
    with installation(workers=2, brokers=3) as system:
        system.until(lambda: cluster.whole(system.kafka), "all replicas in sync")
        with Sender(system.sends, rate=2_000) as sender:
            system.mind(1)
            outcry = frozen.Outcry(system)
            with frozen.two_brokers(system, dice):
                system.until(lambda: not outcry.silent, "all say that Kafka does not answer")
                system.until(lambda: frozen.audit_speaks_of_kafka(system), "the audit says that it does not know")
            system.until(lambda: cluster.whole(system.kafka), "all replicas in sync again")
            system.mind(1)
        check.exact(system, sender.totals())


def test_the_senders_totals_are_those_of_its_rules() -> None:
    for packets in (0, 1, 143, 144, 145, 20_001):
        for flows, mix, family in ((7, "mixed", "46"), (500, "mixed", "4"), (3, "small", "6")):
            counts: dict[int, tuple[int, int]] = {}
            for number in range(packets):
                flow = number % flows
                six = family == "6" or (family == "46" and flow % 2 == 1)
                size = (60, 576, 60, 60, 1514, 60, 576, 60, 576, 60, 576, 60)[number * 7 // 12 % 12]
                size = max(size if mix == "mixed" else 60, 62 if six else 42)
                had = counts.get(1024 + flow, (0, 0))
                counts[1024 + flow] = (had[0] + 1, had[1] + size)
            assert totals(packets, flows=flows, mix=mix, family=family) == counts
