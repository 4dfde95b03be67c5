"""Whether each stage of one deployment is well: how it is asked, for /api/health, `ayaflow up` and `ayaflow doctor`.

Asking blocks for its time-out at most, or little longer; who must not wait asks in a thread.
"""

import json
import ssl
import urllib.error
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from typing import Any

from confluent_kafka import KafkaException

from common import kafka
from common.address import Address
from common.clickhouse import Endpoint, endpoints, tls
from common.deadline import opener, within
from common.errors import AyaflowError
from common.settings import ClickHouseSettings, ConsoleSettings, KafkaSettings, Settings
from schemas.topics import topics

TIMEOUT_SECONDS = 2.0
_MOST_BYTES = 1 << 20  # of an answer
_MOST_AT_ONCE = 16  # of the parts of one kind that are asked
_STRAIGHT: dict[str, str] = {}  # no proxy: $http_proxy is for the world outside, and these are parts of ours
# the console's certificate is for the name that people use, and this asks by number; no secret is sent
_TRUSTING = ssl._create_unverified_context()  # noqa: S323, SLF001


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of asking a stage."""

    ok: bool
    message: str = ""  # what is wrong; a sentence if in its own words, else what follows the stage's name and address
    in_its_words: bool = False
    advice: str = ""  # what to do, where there is more to say than for any trouble
    details: Mapping[str, Any] = field(default_factory=dict)  # what it told, without what is above

    @property
    def warnings(self) -> list[str]:
        """What is to be set right though the stage is well; sentences."""
        found = self.details.get("warnings")
        return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []

    def sentence(self, place: str) -> str:
        """What is wrong, as people read it. `place`: name and address, such as `streams at 127.0.0.1:9465`."""
        return self.message if self.in_its_words or not self.message else f"{place} {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """How one stage is asked. A time-out, and whatever else goes wrong, is a verdict."""

    stage: str
    place: str  # its name and address, for sentences
    setting: str  # that says where it is
    look: Callable[[], Verdict]  # raises when it cannot be asked

    def ask(self) -> Verdict:
        """Ask it now."""
        try:
            return self.look()
        except AyaflowError as error:  # a setting
            return Verdict(ok=False, message=str(error), in_its_words=True)
        except (OSError, HTTPException, ValueError) as error:
            return self.silent(_short(error))

    def silent(self, why: str) -> Verdict:
        """The verdict on a stage that does not answer."""
        return Verdict(
            ok=False,
            message=f"does not answer ({why})",
            advice=f"start it with `ayaflow up` or `ayaflow {self.stage}`, or correct {self.setting}",
        )


def questions(settings: Settings, *, timeout_seconds: float = TIMEOUT_SECONDS) -> tuple[Question, ...]:
    """Those of a deployment, in the order of the path of a packet. Nothing is asked yet."""
    console = settings.console
    producers, of_producers = (
        (console.producers, "console.producers")
        if console.producers
        else ([settings.producer.metrics_listen], "producer.metrics_listen")
    )
    streams, of_streams = (
        (console.streams, "console.streams")
        if console.streams
        else ([settings.streams.metrics_listen], "streams.metrics_listen")
    )
    return (
        Question(
            stage="kafka",
            place=f"Kafka at {settings.kafka.bootstrap_servers}",
            setting="kafka.bootstrap_servers",
            look=_Kafka(settings.kafka, timeout_seconds),
        ),
        Question(
            stage="clickhouse",
            place=f"ClickHouse at {settings.clickhouse.url}",
            setting="clickhouse.url",
            look=partial(_clickhouse, settings.clickhouse, timeout_seconds),
        ),
        Question(
            stage="producer",
            place=f"the producer at {', '.join(producers)}",
            setting=of_producers,
            look=partial(_components, "the producer", producers, of_producers, timeout_seconds),
        ),
        Question(
            stage="streams",
            place=f"streams at {', '.join(streams)}",
            setting=of_streams,
            look=partial(_components, "streams", streams, of_streams, timeout_seconds),
        ),
        Question(
            stage="console",
            place=f"the console at {console.listen}",
            setting="console.listen",
            look=partial(_console, console, 2 * timeout_seconds),  # it asks the others
        ),
    )


def console_url(settings: ConsoleSettings) -> str:
    """Where a browser on this machine finds the console."""
    place = Address.parse(settings.listen, "console.listen").reachable
    return f"{'https' if settings.tls_certificate else 'http'}://{place}"


class _Kafka:
    """Keeps its client: one that is made anew for each question would have to find the brokers first."""

    def __init__(self, settings: KafkaSettings, timeout_seconds: float) -> None:
        self._settings = settings
        self._timeout = timeout_seconds
        self._client: Any = None

    def __call__(self) -> Verdict:
        if self._client is None:  # it has a length, and is false while nothing waits in it
            self._client = kafka.admin(self._settings)
        self._client.poll(0)  # or what it says while Kafka is away would pile up
        try:
            cluster = self._client.list_topics(timeout=self._timeout)
        except KafkaException as error:
            if said := kafka.refused(error, self._client):
                return Verdict(ok=False, message=said, in_its_words=True)
            raise OSError(kafka.reason(error)) from error
        missing = [topic.name for topic in topics(self._settings) if topic.name not in cluster.topics]
        return Verdict(
            ok=not missing,
            message=f"lacks the topics {', '.join(missing)}" if missing else "",
            advice="`ayaflow up` or `ayaflow kafka` makes them" if missing else "",
            details={"brokers": len(cluster.brokers), "missing_topics": missing},
        )


def _clickhouse(settings: ClickHouseSettings, timeout_seconds: float) -> Verdict:
    """Of several hosts one is enough; those that do not answer are warnings."""
    hosts = endpoints(settings.url)
    silent = []
    for endpoint in hosts:
        try:
            verdict = _host(endpoint, settings, timeout_seconds / len(hosts))
        except (OSError, HTTPException, ValueError) as error:
            if len(hosts) == 1:
                raise
            verdict = Verdict(ok=False, message=f"does not answer ({_short(error)})")
        if not verdict.ok:
            silent.append((endpoint, verdict))
    if len(silent) == len(hosts):
        return silent[0][1]
    warnings = [verdict.sentence(f"ClickHouse at {endpoint.url}") for endpoint, verdict in silent]
    return Verdict(ok=True, details={"warnings": warnings} if warnings else {})


def _host(endpoint: Endpoint, settings: ClickHouseSettings, timeout_seconds: float) -> Verdict:
    context = tls(settings) if endpoint.scheme == "https" else None
    # by the way that its clients go
    status, _ = _get(f"{endpoint.url}/ping", timeout_seconds, context, proxies=None)
    return Verdict(ok=status == 200, message="" if status == 200 else f"answers {status}")


def component(listen: str, setting: str, timeout_seconds: float = TIMEOUT_SECONDS) -> Verdict:
    """What a producer or streams says of itself. Raises OSError, HTTPException, ValueError; SettingsError."""
    return _verdict(_get(f"http://{Address.parse(listen, setting).reachable}/health", timeout_seconds))


def _components(name: str, listen: Sequence[str], setting: str, timeout_seconds: float) -> Verdict:
    """One of several that is not well, else the first; what all of them told is in its details as `parts`."""
    if len(listen) == 1:
        return component(listen[0], setting, timeout_seconds)

    def ask(address: str) -> Verdict:
        try:
            return component(address, setting, timeout_seconds)
        except (OSError, HTTPException, ValueError) as error:
            return Verdict(ok=False, message=f"does not answer ({_short(error)})")

    with ThreadPoolExecutor(min(len(listen), _MOST_AT_ONCE), thread_name_prefix="health") as threads:
        verdicts = dict(zip(listen, threads.map(ask, listen), strict=True))
    sentences = {address: each.sentence(f"{name} at {address}") for address, each in verdicts.items()}
    address, worst = next((found for found in verdicts.items() if not found[1].ok), (listen[0], verdicts[listen[0]]))
    parts = [
        {"address": each, "ok": verdict.ok, "message": sentences[each], "details": dict(verdict.details)}
        for each, verdict in verdicts.items()
    ]
    warnings = [warning for each in verdicts.values() for warning in each.warnings]
    return Verdict(
        ok=worst.ok,
        message=sentences[address],
        in_its_words=True,
        details={**worst.details, "warnings": warnings, "parts": parts},
    )


def _console(settings: ConsoleSettings, timeout_seconds: float) -> Verdict:
    return _verdict(_get(f"{console_url(settings)}/api/health", timeout_seconds, _TRUSTING))


def _get(
    url: str, timeout_seconds: float, tls: ssl.SSLContext | None = None, *, proxies: dict[str, str] | None = _STRAIGHT
) -> tuple[int, bytes]:
    """Status and body, whatever the status. `proxies`: None: the environment's. Raises OSError or HTTPException."""
    with within(timeout_seconds):
        try:
            with opener(tls, proxies).open(url, timeout=timeout_seconds) as answer:
                return answer.status, answer.read(_MOST_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(_MOST_BYTES)


def _verdict(answer: tuple[int, bytes]) -> Verdict:
    """What a /health of ours says. Raises ValueError when it is not one."""
    status, body = answer
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        if status == 200:
            raise ValueError("what answers is not a part of ayaflow")
        return Verdict(ok=False, message=f"answers {status}")
    ok = bool(told.pop("ok", False))
    told.pop("stage", None)
    if ok:
        return Verdict(ok=True, details=told)
    if error := _first_error(told):
        return Verdict(ok=False, message=error, in_its_words=True, details=told)
    waits = told.get("waiting_for")
    unsaid = "says that it is not well, and not why; its log, in data_dir/logs, has more"
    return Verdict(ok=False, message=f"waits for {waits}" if waits else unsaid, details=told)


def _first_error(told: Mapping[str, Any]) -> str:
    stages = told.get("stages")
    for stage in stages if isinstance(stages, list) else ():  # the console's answer is about all
        if isinstance(stage, dict) and not stage.get("ok") and stage.get("message"):
            return f"{stage.get('stage')}: {stage['message']}"
    if said := str(told.get("error") or told.get("message") or ""):
        return said
    return next(iter(troubles(told)), "")


def troubles(told: Mapping[str, Any]) -> list[str]:
    """What streams cannot do now, a sentence a place, the oldest first."""
    found = told.get("troubles")
    return [_trouble(each) for each in (found if isinstance(found, list) else ()) if isinstance(each, dict)]


def _trouble(each: Mapping[str, Any]) -> str:
    partition, window, since = each.get("partition"), each.get("window_begin"), each.get("since")
    where = [] if partition is None else [f"partition {partition}"]
    where += [f"the window of {window}"] if window else []
    place = f"{', '.join(where)}: " if where else ""
    what = each.get("error") or each.get("service") or "something is wrong"
    return f"{place}{what}{f' (since {since})' if since else ''}"


def _short(error: BaseException) -> str:
    """Why it cannot be asked, in a few words."""
    reason = getattr(error, "reason", error)  # urllib's errors have another in them
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, ConnectionRefusedError):
        return "connection refused"
    text = str(getattr(reason, "strerror", None) or reason).strip()
    return text.splitlines()[0][:160] if text else type(reason).__name__
