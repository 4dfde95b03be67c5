"""The health of every stage, asked anew for each request: Kafka, ClickHouse, producer, streams, and the console."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
from confluent_kafka import KafkaException

from common import kafka
from common.address import Address
from common.clickhouse import Endpoint
from common.errors import SettingsError
from common.settings import Settings
from schemas.topics import TopicNames

TIMEOUT_SECONDS = 2.0
EXAMPLES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {
            "application/json": {
                "example": {
                    "ok": status == 200,
                    "node": "gateway-1",
                    "stages": [
                        {"stage": "streams", "ok": status == 200, "message": message, "age_seconds": age, "details": {}}
                    ],
                }
            }
        },
    }
    for status, text, message, age in (
        (200, "All stages are well.", "", 0.4),
        (503, "A stage is not.", "streams at 127.0.0.1:9465 does not answer (connection refused)", None),
    )
}
"""For the OpenAPI description."""
Stage = dict[str, Any]
"""`stage`, `ok`, `message` (a sentence, empty when ok), `age_seconds` of its last event (or null), `details`."""


def stage(
    name: str,
    *,
    ok: bool,
    message: str = "",
    age_seconds: float | None = None,
    details: Mapping[str, Any] | None = None,
) -> Stage:
    """One entry of `stages`."""
    return {"stage": name, "ok": ok, "message": message, "age_seconds": age_seconds, "details": dict(details or {})}


class Health:
    """Asks the stages of one deployment. Keeps a Kafka client between requests; close it."""

    def __init__(self, settings: Settings, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._settings = settings
        self._timeout = timeout_seconds
        self._started = time.monotonic()
        self._kafka: Any = None
        self._kafka_lock = asyncio.Lock()

    async def read(self) -> dict[str, Any]:
        """`{"ok": …, "node": …, "stages": […]}` in the order of the path of a packet; takes the timeout at most."""
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            stages = await asyncio.gather(
                self._guard("kafka", self._read_kafka),
                self._guard("clickhouse", lambda: self._read_clickhouse(session)),
                self._guard(
                    "producer",
                    lambda: self._read_component(
                        session, "producer", self._settings.producer.metrics_listen, "last_ack_age_seconds"
                    ),
                ),
                self._guard(
                    "streams",
                    lambda: self._read_component(
                        session, "streams", self._settings.streams.metrics_listen, "last_insert_age_seconds"
                    ),
                ),
            )
        console = stage("console", ok=True, details={"uptime_seconds": round(time.monotonic() - self._started, 1)})
        everything = [*stages, console]
        return {"ok": all(one["ok"] for one in everything), "node": self._settings.node, "stages": everything}

    async def _guard(self, name: str, ask: Callable[[], Awaitable[Stage]]) -> Stage:
        """A stage that cannot be asked is a stage that is not ok."""
        try:
            return await asyncio.wait_for(ask(), self._timeout + 0.5)
        except (TimeoutError, aiohttp.ClientError, SettingsError, OSError, ValueError, TypeError) as error:
            reason = "no answer in time" if isinstance(error, TimeoutError) else _short(error)
            return stage(name, ok=False, message=f"{self._address(name)} does not answer ({reason}); {_HINTS[name]}")

    def _address(self, name: str) -> str:
        return {
            "kafka": f"Kafka at {self._settings.kafka.bootstrap_servers}",
            "clickhouse": f"ClickHouse at {self._settings.clickhouse.url}",
            "producer": f"the producer at {self._settings.producer.metrics_listen}",
            "streams": f"streams at {self._settings.streams.metrics_listen}",
        }[name]

    async def _read_kafka(self) -> Stage:
        async with self._kafka_lock:  # one question at a time: librdkafka's call blocks a thread
            return await asyncio.to_thread(self._ask_kafka)

    def _ask_kafka(self) -> Stage:
        self._kafka = self._kafka or kafka.admin(self._settings.kafka)
        try:
            cluster = self._kafka.list_topics(timeout=self._timeout)
        except KafkaException as error:
            raise OSError(kafka.reason(error)) from error
        topics = TopicNames.of(self._settings.kafka.topic_prefix)
        wanted = (topics.packets, topics.flows, topics.live, topics.dead_letter)
        missing = [name for name in wanted if name not in cluster.topics]
        details = {"brokers": len(cluster.brokers), "missing_topics": missing}
        if missing:
            message = f"topics are missing: {', '.join(missing)}; `ayaflow up` or `ayaflow kafka` makes them"
            return stage("kafka", ok=False, message=message, details=details)
        return stage("kafka", ok=True, details=details)

    async def _read_clickhouse(self, session: aiohttp.ClientSession) -> Stage:
        async with session.get(f"{Endpoint.of(self._settings.clickhouse.url).url}/ping") as answer:
            if answer.status != 200:
                return stage("clickhouse", ok=False, message=f"{self._address('clickhouse')} answers {answer.status}")
        return stage("clickhouse", ok=True)

    async def _read_component(self, session: aiohttp.ClientSession, name: str, listen: str, age: str) -> Stage:
        place = Address.parse(listen, f"{name}.metrics_listen").reachable
        async with session.get(f"http://{place}/health") as answer:
            details = json.loads(await answer.text())
        if not isinstance(details, dict):
            raise TypeError("its answer is not an object")
        ok = bool(details.pop("ok", False))
        details.pop("stage", None)
        message = "" if ok else str(details.get("error") or f"{self._address(name)} says that it is not well")
        return stage(name, ok=ok, message=message, age_seconds=details.get(age), details=details)


_HINTS = {
    "kafka": "start it with `ayaflow up` or `ayaflow kafka`, or correct kafka.bootstrap_servers",
    "clickhouse": "start it with `ayaflow up` or `ayaflow clickhouse`, or correct clickhouse.url",
    "producer": "start it with `ayaflow up` or `ayaflow producer`, or correct producer.metrics_listen",
    "streams": "start it with `ayaflow up` or `ayaflow streams`, or correct streams.metrics_listen",
}


def _short(error: BaseException) -> str:
    text = str(error).strip()
    if "Connect call failed" in text or "Connection refused" in text:
        return "connection refused"
    return text.splitlines()[0][:160] if text else type(error).__name__
