"""What one worker does for all beside its windows: the disk stays within its limits, old epochs are added up."""

from collections.abc import Callable
from typing import Any

from common.settings import ClickHouseSettings, KafkaSettings
from streams.disk.keeper import Keeper
from streams.disk.plan import Limits
from streams.disk.turns import Turns
from streams.metrics import Metrics
from streams.store.condensing import Condenser
from streams.store.disk import ClickHouseDisk

_CONDENSE_SECONDS = 300.0


class Housekeeping:
    """Both, each in a thread of its own."""

    def __init__(
        self, settings: ClickHouseSettings, kafka: KafkaSettings, metrics: Metrics, mine: Callable[[], bool]
    ) -> None:
        """`mine`: whether this worker is the one."""
        limits = Limits(cap=settings.max_bytes, reserve=settings.reserve_bytes)
        self._keeper = Keeper(ClickHouseDisk(settings), limits, settings.retention, metrics)
        self._condenser = Condenser(settings, kafka)
        self._disk = Turns("the disk's room", self._keeper.look, seconds=self._keeper.pause, mine=mine)
        self._ledger = Turns("the old ledger", self._condenser.look, seconds=lambda: _CONDENSE_SECONDS, mine=mine)

    def start(self) -> None:
        """Begin."""
        self._disk.start()
        self._ledger.start()

    def told(self) -> dict[str, Any]:
        """For /health: `disk` (null: another worker looks after it), `warnings`."""
        if not self._disk.ours:
            return {"disk": None, "warnings": []}
        both = {
            "ClickHouse's disk is not looked after": self._disk,
            "old epochs of the ledger are not added up": self._ledger,
        }
        failed = [f"{what}: {turns.error}" for what, turns in both.items() if turns.error]
        return {"disk": self._keeper.told(), "warnings": self._keeper.warnings + failed}

    def close(self) -> None:
        """End both. What runs is not waited for long."""
        for turns in (self._disk, self._ledger):
            turns.close()
        self._keeper.close()
        self._condenser.close()
