"""The streams component: Faust, worker, metrics; runs until SIGINT or SIGTERM."""

import asyncio
import logging
import threading
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from common import logs
from common.errors import AyaflowError, ServiceUnavailable
from common.metrics import MetricsServer
from common.outages import Outages
from common.settings import Settings
from common.stopping import END_SECONDS, Stop, end_now, stop_on_signals
from schemas.avro.codec import Codec
from schemas.clickhouse.horizon import Horizon
from schemas.topics import TopicNames
from streams import app as faust_app
from streams import metrics as streams_metrics
from streams.housekeeping import Housekeeping
from streams.kafka.broker import KafkaBroker, NamesBacklog, make_missing_topics
from streams.kafka.offsets import KafkaOffsets
from streams.kafka.publisher import KafkaPublisher
from streams.names.worker import NameWorker
from streams.operators.findings import Runner
from streams.operators.operator import load
from streams.store.clickhouse import ClickHouseStore
from streams.store.findings import FindingsStore
from streams.store.names import ClickHouseNames
from streams.store.packets import PacketStore
from streams.worker.clock import pause
from streams.worker.worker import Worker

log = logs.get("streams")

_AGAIN_SECONDS = 2.0
_STOP_SECONDS = 5.0


def run(settings: Settings) -> int:
    """Window packets into flows until SIGINT or SIGTERM. Returns the exit code; raises AyaflowError."""
    # faust and mode use what Python 3.12 and later deprecate; that is not our users' concern
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(faust|mode|aiokafka)\b.*")
    for library in ("aiokafka", "faust", "mode", "clickhouse_connect"):
        # forty lines a second while Kafka is away, tracebacks while ClickHouse is: the worker says it in a sentence
        logging.getLogger(library).setLevel(logging.CRITICAL)
    hook, threading.excepthook = threading.excepthook, _thread_ended
    try:
        with stop_on_signals(within=END_SECONDS) as stop:
            return asyncio.run(Component(settings).run(stop))
    finally:
        threading.excepthook = hook


def _thread_ended(args: threading.ExceptHookArgs) -> None:
    """aiokafka's thread is cancelled when it is stopped while Kafka is away; that is no error."""
    if not issubclass(args.exc_type, asyncio.CancelledError):
        log.error("a thread failed", cause=args.exc_value, thread=args.thread.name if args.thread else "")


class Component:
    """Everything of the component, from start to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = TopicNames.of(settings.kafka.topic_prefix)
        self._worker: Worker | None = None
        self._names: NameWorker | None = None
        self._housekeeping: Housekeeping | None = None
        self._waiting_for = "Kafka"
        self._metrics = streams_metrics.create()
        self._left_behind = False  # Faust or a user's operator is at work, and would hold the process
        self._operators = load(settings.streams.operators, settings.streams.operator_options)

    async def run(self, stop: Stop) -> int:
        """Until `stop`. Raises AyaflowError when it cannot go on."""
        failure: AyaflowError | None = None
        try:
            await self._run(stop)
        except AyaflowError as error:
            failure = error
        if failure is None:
            log.info("stopped")
        elif not self._left_behind:
            raise failure
        else:
            log.error("stopped", error=str(failure))
        if self._left_behind:
            end_now(failure.exit_code if failure else 0)  # or it would neither work nor be started again
        return 0

    async def _run(self, stop: Stop) -> None:
        faust_app.credentials(self._settings.kafka)  # a wrong setting is said before anything starts
        health = MetricsServer(self._settings.streams.metrics_listen, "streams.metrics_listen", self.health)
        with stop.on_loop() as stopping, health:
            horizon = Horizon.of(self._settings.kafka, self._settings.streams)
            store = ClickHouseStore(self._settings.clickhouse, self._topics.packets, horizon=horizon)
            # whoever is told that we are ready finds topics and tables
            if await self._wait_for("Kafka", self._make_topics, stopping) and await self._wait_for(
                "ClickHouse", store.check, stopping
            ):
                await self._work(store, stopping)

    async def _wait_for(self, service: str, ask: Callable[[], None], stopping: asyncio.Event) -> bool:
        """Until `ask`, in a thread, no longer raises ServiceUnavailable. False: a signal came first."""
        outages = Outages(log)
        while not stopping.is_set():
            try:
                await asyncio.to_thread(ask)
            except ServiceUnavailable as error:
                self._waiting_for = str(error)
                outages.away(service, "waiting for a service", error=str(error))
                await pause(stopping, _AGAIN_SECONDS)
            else:
                outages.back(service)
                return True
        return False

    def _make_topics(self) -> None:
        if made := make_missing_topics(self._settings.kafka, [each.name for each in self._operators]):
            log.info("made topics", names=made)

    async def _work(self, store: ClickHouseStore, stopping: asyncio.Event) -> None:
        settings = self._settings
        codec = Codec(settings.schema_registry.url, self._topics)
        publisher = KafkaPublisher(settings.kafka, codec)
        app = faust_app.build(settings.streams, settings.kafka, settings.data_dir)
        offsets = KafkaOffsets(settings.kafka, group=settings.streams.app_id, topic=self._topics.packets)
        operators = [each.name for each in self._operators]
        broker = KafkaBroker(settings.kafka, group=settings.streams.app_id, operators=operators)
        findings = [FindingsStore(settings.clickhouse, each) for each in self._operators]
        runners = [
            Runner(operator, table, publisher.findings)
            for operator, table in zip(self._operators, findings, strict=True)
        ]
        kept = settings.storage.packets_seconds
        packets = PacketStore(settings.clickhouse, self._topics.packets, kept) if kept else None
        member = faust_app.Member(app, self._topics.packets)
        house = Housekeeping(settings.clickhouse, settings.kafka, self._metrics, lambda: 0 in member.assigned())
        worker = Worker(
            settings.streams,
            topic=self._topics.packets,
            codec=codec,
            store=store,
            publisher=publisher,
            offsets=offsets,
            metrics=self._metrics,
            member=member,
            broker=broker,
            operators=runners,
            packets=packets,
        )
        horizon = Horizon.of(settings.kafka, settings.streams)
        names_store = ClickHouseNames(settings.clickhouse, self._topics.names, horizon)
        names_offsets = KafkaOffsets(settings.kafka, group=settings.streams.app_id, topic=self._topics.names)
        names_behind = NamesBacklog(settings.kafka, group=settings.streams.app_id)
        names = NameWorker(
            topic=self._topics.names,
            window_seconds=settings.streams.window_seconds,
            codec=codec,
            store=names_store,
            publisher=publisher,
            offsets=names_offsets,
            behind=names_behind,
            metrics=self._metrics,
            member=faust_app.Member(app, self._topics.names),
        )
        self._worker, self._names, self._housekeeping = worker, names, house
        faust_app.connect(app, {self._topics.packets: worker, self._topics.names: names})
        stop = asyncio.create_task(stopping.wait())
        died = asyncio.create_task(_crash(app))
        starting = asyncio.create_task(app.start())  # waits for Kafka, for as long as that is away
        try:
            await worker.start()
            await names.start()
            ends: set[asyncio.Future[Any]] = {stop, died, worker.failure, names.failure}
            await asyncio.wait({starting, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                log.info("started", app_id=settings.streams.app_id, window_seconds=settings.streams.window_seconds)
                house.start()  # not before: its threads ask for our partitions, and would make Faust's consumer theirs
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            self._raise((worker.failure, names.failure), died, asked=stop.done())
        finally:
            await asyncio.gather(worker.stop(), names.stop())
            self._left_behind = not await left(app) or worker.leaves_threads
            more = (packets,) if packets else ()
            for each in (
                publisher,
                store,
                *findings,
                *more,
                offsets,
                names_store,
                names_offsets,
                names_behind,
                broker,
                codec,
            ):
                each.close()
            for task in (stop, died, starting):
                task.cancel()
            await asyncio.wait({stop, died, starting}, timeout=_STOP_SECONDS)
            await asyncio.to_thread(house.close)

    @staticmethod
    def _raise(failures: "Iterable[asyncio.Future[None]]", died: "asyncio.Task[BaseException]", *, asked: bool) -> None:
        error: BaseException | None = next((each.exception() for each in failures if each.done()), None)
        if error is None and died.done() and not asked:
            error = died.result()
        if error is None or isinstance(error, AyaflowError):
            if error:
                raise error
            return
        log.error("failed", cause=error)
        raise ServiceUnavailable(
            f"streams stopped ({type(error).__name__}: {error}). Start it again: it goes on from what is acknowledged"
        ) from error

    def health(self) -> dict[str, Any]:
        """For /health."""
        if self._worker is None:
            return {"ok": False, "stage": "streams", "waiting_for": self._waiting_for}
        told = self._worker.health()
        names = self._names.health() if self._names else None
        disk = self._housekeeping.told() if self._housekeeping else {}
        return told | {
            "ok": told["ok"] and not (self._names and self._names.troubled),
            "names": names,
            "disk": disk.get("disk"),
            "warnings": [*told["warnings"], *disk.get("warnings", ())],
        }


async def left(app: Any) -> bool:
    """Commit what is acknowledged and leave the group. False: Kafka did not answer, and Faust still waits for it."""
    for work in (app.consumer.commit, app.stop) if app.consumer is not None else (app.stop,):
        # not wait_for: that waits without end for what does not let itself be cancelled
        task = asyncio.create_task(work())
        await asyncio.wait({task}, timeout=_STOP_SECONDS)
        error = task.exception() if task.done() and not task.cancelled() else None
        if not task.done() or task.cancelled() or error:
            task.cancel()
            log.warning(
                "Kafka did not answer: left without committing; what is not committed will be read again",
                error=repr(error) if error else None,
            )
            return False
    return True


async def _crash(app: Any) -> BaseException:
    """Wait until Faust gives up, and say of what."""
    while not app.crashed:  # noqa: ASYNC110  Faust has no event for it
        await asyncio.sleep(0.5)
    reason: BaseException = app.crash_reason or RuntimeError("Faust stopped")
    return reason
