"""clickhouse-connect at its defaults, sync and async. A line a step: its name, ok or FAIL, what it saw."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError

LONG = "SELECT count() FROM numbers(100000000000) WHERE 'python_{}' != ''"


class Steps:
    """What the other languages' programs do, too."""

    def __init__(self, url: str, user: str, password: str) -> None:
        place = urlsplit(url)
        self.place: dict[str, Any] = {
            "host": place.hostname,
            "port": place.port,
            "username": user,
            "password": password,
            "database": "ayaflow",
        }
        self.client = clickhouse_connect.get_client(**self.place)
        self.other = clickhouse_connect.get_client(**self.place)

    def connect(self) -> str:
        assert self.client.ping()
        return str(self.client.server_version)

    def metadata(self) -> str:
        found = self.client.query(
            "SELECT name, type FROM system.columns WHERE database = 'system' AND table = 'tables'"
        )
        assert len(found.result_rows) > 20
        return f"{len(found.result_rows)} columns"

    def query(self) -> str:
        async def many() -> list[Any]:
            client = await clickhouse_connect.get_async_client(**self.place, autogenerate_session_id=False)
            answers = await asyncio.gather(*(client.query("SELECT 1") for _ in range(20)))
            await client.close()
            return [answer.result_rows for answer in answers]

        assert asyncio.run(many()) == [[(1,)]] * 20
        ((found,),) = self.client.query("SELECT sum(number) FROM numbers(1000)").result_rows
        assert found == 499_500
        return str(found)

    def parameters(self) -> str:
        found = self.client.query("SELECT {s:String}, {a:UInt8}", parameters={"s": "it's \\ ü\t", "a": 5}).result_rows
        assert found == [("it's \\ ü\t", 5)]
        return "it's \\ ü"

    def insert(self) -> str:
        self.client.command("CREATE TABLE python_rows (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
        self.client.insert("python_rows", [[number, "x"] for number in range(1000)], column_names=["a", "b"])
        ((found,),) = self.client.query("SELECT count() FROM python_rows").result_rows
        assert found == 1000
        return str(found)

    def rows(self) -> str:
        found = self.client.query("SELECT number, toString(number) FROM numbers(500000)").result_rows
        assert len(found) == 500_000
        assert all(str(number) == text for number, text in found)
        return str(len(found))

    def error(self) -> str:
        return self._fails("SELECT nosuch", 47)

    def mid_stream(self) -> str:
        return self._fails("SELECT number, throwIf(number = 3000000, 'boom') FROM numbers(4000000)", 395)

    def cancel(self) -> str:
        async def ask() -> None:
            client = await clickhouse_connect.get_async_client(**self.place)
            asked = asyncio.ensure_future(client.query(LONG.format("cancel")))
            await asyncio.to_thread(self._wait, "python_cancel", 1)
            asked.cancel()
            await asyncio.wait([asked])
            await client.close()

        asyncio.run(ask())
        self._wait("python_cancel", 0)
        return "stopped"

    def kill(self) -> str:
        def stop() -> None:
            self._wait("python_kill", 1)
            self.other.command("KILL QUERY WHERE query_id = 'python-kill'")

        killer = threading.Thread(target=stop)
        killer.start()
        try:
            return self._fails(LONG.format("kill"), 394, settings={"query_id": "python-kill"})
        finally:
            killer.join()

    def _wait(self, mark: str, wanted: int) -> None:
        shown = "SELECT count() FROM system.processes WHERE query NOT LIKE '%processes%' AND query LIKE '%{}%'"
        for _ in range(100):
            if self.other.query(shown.format(mark)).result_rows == [(wanted,)]:
                return
            time.sleep(0.1)
        raise AssertionError(f"not {wanted} of {mark}")

    def _fails(self, query: str, code: int, **options: Any) -> str:
        try:
            self.client.query(query, **options)
        except ClickHouseError as error:
            if f"Code: {code}." in str(error):
                return str(code)
            raise
        raise AssertionError("no error")


def main(url: str, user: str, password: str) -> None:
    """Each step once."""
    steps = Steps(url, user, password)
    named: dict[str, Callable[[], str]] = {
        "connect": steps.connect,
        "metadata": steps.metadata,
        "query": steps.query,
        "parameters": steps.parameters,
        "insert": steps.insert,
        "500,000 rows": steps.rows,
        "error": steps.error,
        "mid-stream": steps.mid_stream,
        "cancel": steps.cancel,
        "KILL": steps.kill,
    }
    for name, run in named.items():
        try:
            print(f"{name}\tok\t{run()}")
        except Exception as error:  # noqa: BLE001  told
            print(f"{name}\tFAIL\t{error!r}")
    steps.client.close()
    steps.other.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
