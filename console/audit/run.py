"""`ayaflow audit`: reads and judges until what differs is believed, and prints the result."""

import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TextIO

from common.settings import Settings
from console import health
from console.audit import around, model, read, report, settle
from console.audit.around import Around
from console.audit.model import Report
from console.audit.read import Range
from console.audit.readings import Readings
from console.audit.storing import Storing
from console.store.client import Store

NEIGHBOUR_SECONDS = 2.0
"""A neighbour may take so long to answer; without an answer the ledger alone is judged."""


def judge(
    readings: Readings, neighbours: Around, span: Range, *, until: float | None, node_timeout_seconds: float
) -> Report:
    """What the readings say, and the neighbours that the ledger cannot know of. `until`: see model.compare."""
    found = model.compare(
        readings, until=until, node_timeout_seconds=node_timeout_seconds, open_since=neighbours.open_since
    )
    return found.with_stuck(neighbours.stuck_since(found.nodes, span.node, readings.now))


def run(settings: Settings, span: Range, *, form: str, out: TextIO, wait_seconds: float = 0, utc: bool = True) -> int:
    """Audit, print, and return the exit code: 0 when all is settled and exact.

    `wait_seconds`: so long it waits until all is settled that was seen up to now. `utc`: so are times in sentences,
    not of this machine's clock. Raises QueryError, ServiceUnavailable.
    """
    settling = settle.Settling(time.monotonic, wait_seconds=wait_seconds)
    until = span.asked_until
    with (
        Store(settings.clickhouse) as store,
        contextlib.closing(Storing(settings.kafka, settings.streams, timeout_seconds=NEIGHBOUR_SECONDS)) as storing,
        ThreadPoolExecutor(len(around.STAGES)) as threads,
    ):
        span = span.behind_shorter_retention(store).behind_dropped(store)
        questions = [storing.question(), *health.questions(settings, timeout_seconds=NEIGHBOUR_SECONDS)]
        questions = [each for each in questions if each.stage in around.STAGES]
        while True:
            asked = {each.stage: threads.submit(each.ask) for each in questions}
            readings = read.read(store, span)
            if until is None and wait_seconds:
                until = readings.now
            neighbours = Around.of({stage: verdict.result() for stage, verdict in asked.items()}, storing.topic)
            found = judge(
                readings, neighbours, span, until=until, node_timeout_seconds=settings.streams.node_timeout_seconds
            )
            if not settling.again(found):
                break
            time.sleep(settle.PAUSE_SECONDS)
    if form == "json":
        out.write(json.dumps(report.as_json(found, neighbours, span.since), ensure_ascii=False) + "\n")
    else:
        report.show(found, neighbours, span.since, out, utc=utc)
    return 0 if found.exact else 1
