import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.errors import ServiceUnavailable
from streams.worker.retrying import CLICKHOUSE, Released, Retrying


async def test_work_is_done_again_until_it_succeeds() -> None:
    tries: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        retrying = Retrying(pool, lambda: 0.0, lambda: tries.append(1))

        def work() -> str:
            if len(tries) < 1:
                raise ServiceUnavailable("away")
            return "done"

        assert await retrying.insist(CLICKHOUSE, asyncio.Event(), work) == "done"
    assert len(tries) == 1
    assert retrying.troubles == {}


async def test_a_partition_that_goes_ends_the_tries_and_the_trouble_is_told() -> None:
    closing = asyncio.Event()
    closing.set()
    with ThreadPoolExecutor(1) as pool:
        retrying = Retrying(pool, lambda: 0.0, lambda: None)

        def work() -> None:
            raise ServiceUnavailable("away")

        with pytest.raises(Released):
            await retrying.insist(CLICKHOUSE, closing, work)
    assert retrying.troubles == {CLICKHOUSE: "away"}


async def test_a_bug_is_not_tried_again() -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(ZeroDivisionError):
        await Retrying(pool, lambda: 0.0, lambda: None).insist(CLICKHOUSE, asyncio.Event(), lambda: 1 / 0)


def test_a_service_that_comes_and_goes_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ayaflow.streams")
    now = [0.0]
    with ThreadPoolExecutor(1) as pool:
        retrying = Retrying(pool, lambda: now[0], lambda: None)
        for second in range(120):
            now[0] = float(second)
            retrying.report(CLICKHOUSE, "away")
            retrying.report(CLICKHOUSE, None)
    assert [record.getMessage() for record in caplog.records] == ["trying again until it works", "works again"] * 2
