"""Who works at ClickHouse and is killed, or stopped for a while, between two of its statements."""

from collections.abc import Callable
from typing import Any

from common.settings import ClickHouseSettings
from streams.store.connection import Connection


class Stopped(Connection):
    """A connection of who is stopped before its statement of this number, as SIGKILL or SIGSTOP would."""

    def __init__(self, settings: ClickHouseSettings, number: int, then: Callable[[], None]) -> None:
        super().__init__(settings, None)
        self._left, self._then = number, then

    def command(self, sql: str, settings: dict[str, Any] | None = None, **parameters: Any) -> None:
        self._left -= 1
        if self._left == -1:
            self._then()
        super().command(sql, settings, **parameters)


class Killed(BaseException):
    """What nobody catches but the test."""
