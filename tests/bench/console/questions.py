"""Each kind of question that the API has, and how it is asked."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import aiohttp

from tests.bench.process import cpu_seconds

Asked = tuple[str, Sequence[tuple[str, dict[str, str]]]]
"""A line of the table: what it is, and the requests that are sent at once."""


def questions(until: datetime) -> list[Asked]:
    """Each kind of question the API has, and the dashboard's page, over an hour, a day and all."""
    end = until.isoformat()
    spans = {
        name: {"since": (until - timedelta(hours=hours)).isoformat(), "until": end}
        for name, hours in (("1 h", 1), ("24 h", 24), ("7 d", 168))
    }
    paths = "src_addr,protocol,dst_port,dst_addr"

    def page(span: str, by: str, chosen: str = "") -> Sequence[tuple[str, dict[str, str]]]:
        common = {**spans[span], "filter": chosen}
        return [
            ("/api/series", {**common, "by": by, "limit": "8", "points": "200"}),
            ("/api/top", {**common, "by": by, "limit": "20"}),
            ("/api/top", {**common, "by": paths, "limit": "40"}),
        ]

    asked: list[Asked] = [
        *(
            (f"Explore page, {span}, by {by}{', ' + chosen if chosen else ''}", page(span, by, chosen))
            for span, by, chosen in (
                ("1 h", "src_addr", ""),
                ("24 h", "src_addr", ""),
                ("24 h", "dst_port", ""),
                ("24 h", "protocol", ""),
                ("24 h", "src_addr", "dst_port = https"),
                ("24 h", "src_addr", "addr in 10.0.0.0/24"),
                ("24 h", "src_addr", "bytes > 1M"),
                ("7 d", "src_addr", ""),
            )
        ),
        *(
            (
                f"top by {by}, {span}{', ' + chosen if chosen else ''}",
                [("/api/top", {**spans[span], "by": by, "filter": chosen})],
            )
            for span, by, chosen in (
                ("24 h", "pair", ""),
                ("24 h", "addr", ""),
                ("24 h", "node,interface", ""),
                ("24 h", "src_port", ""),
                ("24 h", "port", ""),
                ("24 h", "src_addr", "src_port = 40000"),
                ("24 h", "src_addr", "bytes > 1M"),
                ("24 h", "src_addr", "bytes > 100 and dst_port = ssh"),
                ("1 h", "src_addr", "bytes > 1M"),
            )
        ),
        *(
            (f"history, {span}{', ' + chosen if chosen else ''}", [("/api/history", {**spans[span], "filter": chosen})])
            for span, chosen in (
                ("24 h", ""),
                ("24 h", "addr = 10.0.0.7"),
                ("24 h", "bytes > 1M"),
                ("24 h", "bytes > 1T"),
            )
        ),
        *(
            (
                f"flows, newest 1000, {span}{', ' + chosen if chosen else ''}",
                [("/api/flows", {**spans[span], "filter": chosen})],
            )
            for span, chosen in (("1 h", ""), ("24 h", ""))
        ),
        *(
            (
                f"flows, largest 1000, {span}{', ' + chosen if chosen else ''}",
                [("/api/flows", {**spans[span], "sort": "bytes", "filter": chosen})],
            )
            for span, chosen in (("1 h", ""), ("24 h", ""), ("24 h", "dst_port = ssh"), ("24 h", "bytes > 1M"))
        ),
        ("nodes, 24 h", [("/api/nodes", spans["24 h"])]),
        ("audit, 1 h", [("/api/audit", spans["1 h"])]),
        ("audit, 24 h", [("/api/audit", spans["24 h"])]),
    ]
    return asked


async def ask(session: aiohttp.ClientSession, requests: Sequence[tuple[str, dict[str, str]]]) -> int:
    """Send them at once; returns the bytes of all answers."""

    async def one(path: str, parameters: Mapping[str, str]) -> int:
        async with session.get(path, params=parameters) as answer:
            body = await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{path} {dict(parameters)}: {answer.status} {body[:300].decode()}")
            return len(body)

    return sum(await asyncio.gather(*(one(*request) for request in requests)))


async def answering(session: aiohttp.ClientSession) -> None:
    """Wait for the console."""
    for _ in range(300):
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get("/api/fields"):
                return
        await asyncio.sleep(0.1)
    raise RuntimeError("the console does not answer")


async def measure(url: str, server: int, asked: Sequence[Asked], repeat: int, report: Callable[[str], None]) -> None:
    """A line of the table for each question; `server` is ClickHouse's process, whose CPU time is told."""
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=120)) as session:
        await answering(session)
        for name, requests in asked:
            took = []
            size = 0
            error, cpu = "", cpu_seconds(server)
            for _ in range(repeat):
                began = time.perf_counter()
                try:
                    size = await ask(session, requests)
                except RuntimeError as problem:
                    error = str(problem)
                    break
                took.append(time.perf_counter() - began)
            if error:
                report(f"| {name} | {error} | | | | |")
            else:
                ordered = sorted(took)
                cpu = (cpu_seconds(server) - cpu) / len(took)
                wall = (ordered[0], statistics.median(took), ordered[-(-95 * len(ordered) // 100) - 1])
                cells = " | ".join(f"{1000 * one:,.0f}" for one in (cpu, *wall))
                report(f"| {name} | {cells} | {size / 1000:,.0f} |")
