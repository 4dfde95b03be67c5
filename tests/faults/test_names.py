"""Names through kill -9 of each part on their way: each is in the table once, and their audit adds up. Long form."""

import random

import pytest

from tests.e2e.resolver import COPIES, Resolver
from tests.faults import check
from tests.faults.faults import FAULTS
from tests.faults.installation import Installation, installation

pytestmark = [pytest.mark.root, pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.faults, pytest.mark.timeout(600)]


def stored(system: Installation) -> dict[str, int]:
    """How often each name is in the table."""
    return {row["name"]: row["n"] for row in system.rows("SELECT name, sum(count) AS n FROM names GROUP BY name")}


def test_names_are_there_once_whichever_part_is_killed() -> None:
    dice = random.Random("names")
    with installation(workers=1, capture={"inspect": True}) as system:
        with Resolver((system.sends, system.watched), rate=100) as sender:
            for name in ("producer", "streams", "clickhouse", "producer", "kafka"):
                system.mind(dice.uniform(1, 3))
                end = FAULTS[f"kill {name}"](system, dice)
                system.mind(dice.uniform(0.2, 2))
                end()
            system.until(system.ready, "all parts well again")
            system.mind(2)
        wanted = dict.fromkeys(sender.names, 1)
        system.until(lambda: len(stored(system)) >= len(wanted), f"{len(wanted)} names stored")
        assert stored(system) == wanted
        code, report = check.audit(system, wait=60)
        assert code == 0, report
        (ledger,) = system.rows("SELECT sum(copied_packets) AS copied, sum(inspected_packets) AS inspected FROM ledger")
        (read,) = system.rows(
            "SELECT sum(copies) AS copies, sum(named_copies) AS named, sum(missing_copies) AS missing FROM names_ledger"
        )
        assert ledger["inspected"] == ledger["copied"] == read["copies"] == read["named"] == COPIES * len(wanted) // 2
        assert read["missing"] == 0
