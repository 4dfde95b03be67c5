"""All faults in one run, again and again, each time in another order at other moments. Long form: make test-faults."""

import os
import random
import time

import pytest

from tests.faults import check, results
from tests.faults.auditing import Auditing
from tests.faults.faults import Runner, schedule
from tests.faults.installation import installation
from tests.faults.traffic import Sender

pytestmark = [pytest.mark.root, pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.faults]

SEEDS = int(os.environ.get("SEEDS", "20"))
FIRST = int(os.environ.get("FIRST_SEED", "1"))
SECONDS = float(os.environ.get("SECONDS_EACH", "30"))
LONG_SECONDS = 300.0


def all_in_one(group: str, seed: int, *, seconds: float, longest: float, rate: int) -> None:
    """One run. The seed decides the faults, their moments, and how it is set up."""
    dice = random.Random(seed)
    workers = dice.choice([1, 3])
    ring_bytes = dice.choice([1 << 18, 1 << 20, 16 << 20])
    detail = dice.choice(["packet", "packet", "packet", "flow"])
    planned = schedule(dice, seconds=seconds, pause=1.5, longest=longest)
    print(f"seed {seed}: {workers} workers, ring of {ring_bytes} bytes, detail {detail}")
    with installation(workers=workers, disks=True, capture={"ring_bytes": ring_bytes, "detail": detail}) as system:
        runner = Runner(system, dice)
        with Sender(system.sends, rate=rate) as sender, Auditing(system) as auditing:
            runner.run(planned, clock=time.monotonic)
            system.mind(1)
        print("\n".join(runner.happened))
        found = check.exact(system, sender.totals())
        assert auditing.alarms == []
        figures = {
            "workers": workers,
            "ring_bytes": ring_bytes,
            "detail": detail,
            "faults": len(runner.happened),
            "sent": sender.stop().packets,
            "stored": found.packets,
            "coalesced": found.coalesced,
            "dropped": 0,
            "audits_meanwhile": auditing.exact,
            "audits_not_settled": auditing.unsettled,
            "settled_after_s": found.settle_seconds,
            "ended_by_itself": dict(system.restarts()),
            "schedule": runner.happened,
            "deaths": system.deaths(),
        }
    print({key: value for key, value in figures.items() if key != "schedule"})
    results.record(group, f"seed {seed}", **figures)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_whatever_is_done_in_whatever_order_all_is_stored_once(seed: int) -> None:
    all_in_one("seeded runs", seed, seconds=SECONDS, longest=5, rate=5_000)


@pytest.mark.timeout(900)
def test_five_minutes_of_everything() -> None:
    all_in_one("five minutes of everything", 2024, seconds=LONG_SECONDS, longest=15, rate=5_000)
