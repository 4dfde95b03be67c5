"""Is each stage ready? Asked over the network, in a thread of its own, so that nothing waits for an answer."""

import json
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Self

from confluent_kafka import KafkaException

from common import kafka
from common.address import Address
from common.clickhouse import Endpoint
from common.settings import ConsoleSettings, Settings
from schemas.topics import topics

TIMEOUT_SECONDS = 2.0
CONSOLE_SECONDS = 2 * TIMEOUT_SECONDS  # it asks the others itself
# the console's certificate is for the name that people use, and this asks by number; no secret is sent
_TRUSTING = ssl._create_unverified_context()  # noqa: S323, SLF001
Verdict = tuple[bool, str]
"""Ready or not, and a sentence why not."""


def http_health(url: str, timeout_seconds: float = TIMEOUT_SECONDS) -> Verdict:
    """A JSON /health with `ok`; ClickHouse's /ping says Ok. and no JSON."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds, context=_TRUSTING) as answer:  # noqa: S310  our own addresses
            body = answer.read(1 << 20)
    except urllib.error.HTTPError as error:
        with error:
            return False, _reason(error.read(1 << 20)) or f"answers {error.code}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return False, f"does not answer: {getattr(reason, 'strerror', None) or reason}"
    return body == b"Ok.\n" or bool(_json(body).get("ok")), _reason(body)


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _reason(body: bytes) -> str:
    found = _json(body)
    for stage in found.get("stages", []):  # the console's answer is about all
        if not stage.get("ok") and stage.get("message"):
            return f"{stage['stage']}: {stage['message']}"
    for key in ("error", "waiting_for", "message"):
        if found.get(key):
            return f"{'waits for ' if key == 'waiting_for' else ''}{found[key]}"
    return ""


class Probes(threading.Thread):
    """Asks each stage again and again; `verdicts` has the newest answers. Use it with `with`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="probes", daemon=True)
        self._settings = settings
        self._done = threading.Event()
        self._kafka_admin: Any = None
        self.verdicts: dict[str, Verdict] = {}
        self.interval = 0.25  # s; the supervisor slows it down when all is ready

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join(2 * TIMEOUT_SECONDS)

    def run(self) -> None:
        """Until the end of `with`."""
        asks = self.asks()
        while not self._done.is_set():
            for name, ask in asks.items():
                self.verdicts[name] = ask()
                if self._done.is_set():
                    return
            self._done.wait(self.interval)

    def asks(self) -> dict[str, Callable[[], Verdict]]:
        """How each stage is asked."""
        settings = self._settings
        clickhouse = Endpoint.of(settings.clickhouse.url).url
        producer = Address.parse(settings.producer.metrics_listen, "producer.metrics_listen").reachable
        streams = Address.parse(settings.streams.metrics_listen, "streams.metrics_listen").reachable
        return {
            "kafka": self._ask_kafka,
            "clickhouse": lambda: http_health(f"{clickhouse}/ping"),
            "producer": lambda: http_health(f"http://{producer}/health"),
            "streams": lambda: http_health(f"http://{streams}/health"),
            "console": lambda: http_health(f"{console_url(settings.console)}/api/health", CONSOLE_SECONDS),
        }

    def _ask_kafka(self) -> Verdict:
        wanted = {topic.name for topic in topics(self._settings.kafka)}
        self._kafka_admin = self._kafka_admin or kafka.admin(self._settings.kafka)
        try:
            found = self._kafka_admin.list_topics(timeout=TIMEOUT_SECONDS).topics
        except KafkaException as error:
            return False, f"does not answer: {kafka.reason(error)}"
        missing = wanted - set(found)
        return not missing, f"lacks the topics {', '.join(sorted(missing))}" if missing else ""


def console_url(settings: ConsoleSettings) -> str:
    """Where a browser on this machine finds the console."""
    place = Address.parse(settings.listen, "console.listen").reachable
    return f"{'https' if settings.tls_certificate else 'http'}://{place}"
