"""`ayaflow producer`: watches this node's interfaces until it is told to stop."""

import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common import logs
from common.errors import AyaflowError, EnvironmentProblem, SettingsError
from common.metrics import MetricsServer
from common.settings import Settings
from common.stopping import Stop, stop_on_signals
from producer.capture import columns
from producer.capture.batch import Source
from producer.capture.capture import Capture, Timing
from producer.capture.epochs import Epochs, slots_of
from producer.clock import WallClock
from producer.health import State, health
from producer.interfaces import selection as interfaces
from producer.interfaces.attacher import ChildAttacher
from producer.interfaces.hooks import Hooks
from producer.interfaces.observer import Observer
from producer.interfaces.selection import Selection
from producer.kafka.encoding import EncodeEvents, Encoding
from producer.kafka.outbox import Entry
from producer.kafka.publisher import Publisher, open_kafka
from producer.kafka.spool import Spool
from producer.kafka.tail import Safe, read_tail
from producer.kernel import child, environment, pins
from producer.kernel.begin import Begun, begin
from producer.kernel.maps import Switches
from producer.kernel.run import PinnedRun
from producer.metrics import ProducerMetrics
from producer.watch import SHORTEST_WAIT, watch
from schemas.avro import native
from schemas.avro.packet_encoder import BatchEncoder
from schemas.avro.registry import Registry, open_registry
from schemas.topics import TopicNames

FINISH_SECONDS = 10.0
_TAKE_OVER_NS = 120_000_000_000  # that finding out what Kafka has may take

log = logs.get("producer")


def run(settings: Settings) -> int:
    """Watch until SIGINT or SIGTERM -> exit code. Raises AyaflowError when it cannot begin."""
    environment.check_privileges()
    environment.check_kernel()
    if not (native.IS_COMPILED and columns.IS_COMPILED):
        log.warning("numpy does what was not compiled, slower; install gcc, then run make setup (or pip install) again")
    page = os.sysconf("SC_PAGE_SIZE")
    size = settings.capture.ring_bytes
    if size & (size - 1) or size < page:
        raise SettingsError(f"capture.ring_bytes: {size} is not a power of two of at least {page}")
    selection = Selection.of(settings.capture.interfaces)
    interfaces.check(selection, interfaces.Links.of_this_machine())
    with stop_on_signals() as stop:
        pins.mount(settings.capture.bpffs)
        directory = pins.node_directory(settings.capture.bpffs, settings.node)
        try:
            with pins.locked(directory):
                return _run_locked(settings, selection, directory, stop)
        except OSError as error:
            raise EnvironmentProblem(f"{error.strerror or error}: {error.filename or directory}") from error


def _run_locked(settings: Settings, selection: Selection, directory: Path, stop: Stop) -> int:
    metrics, state = ProducerMetrics(), State(settings.node)
    topics = TopicNames.of(settings.kafka.topic_prefix)
    registry = open_registry(settings.schema_registry.url, topics)
    clock = WallClock()
    started = time.monotonic()

    def done(entry: Entry, now_ns: int) -> None:
        state.packets += entry.batch.packets
        metrics.batches.inc()
        metrics.ack_seconds.observe((now_ns - entry.sent_ns) / 1e9)

    spool = _open_spool(settings, metrics)
    publisher = Publisher(
        node=settings.node,
        position=0,
        open_transport=partial(open_kafka, settings.kafka),
        monotonic=clock.monotonic,
        spool=spool,
        on_done=done,
    )
    run = _Run(settings, publisher, spool, registry, topics, clock, metrics)
    begun = begin(settings.capture, directory=directory, logs=settings.data_dir / "logs")
    hooks: Hooks | None = None
    try:
        capture, epochs = run.capture(begun.kernel, adopted=begun.adopted)
        hooks = _hooks(settings, selection, begun, capture, epochs, state)
        try:
            hooks.begin()
        except AyaflowError:
            if not begun.adopted:
                _detach(settings)
                pins.remove_files(directory)
            raise
        for old in begun.old:
            if not run.drain(old, begun.kernel, stop):
                _detach(settings)
                return 1
        publisher.begin_at(capture.position)
        metrics.show(
            ring_fill=lambda: capture.ring_fill,
            coalescing=lambda: capture.detail.coalescing,
            spool_bytes=lambda: publisher.spool_bytes,
            queue=lambda: publisher.outbox.in_flight,
        )
        report = partial(health, state, publisher, capture)
        with MetricsServer(settings.producer.metrics_listen, "producer.metrics_listen", report):
            log.info(
                "watching",
                node=settings.node,
                interfaces=",".join(state.interfaces) or "none yet",
                seconds=round(time.monotonic() - started, 2),
            )
            watch(capture, publisher, hooks, begun.kernel, stop, settings.producer.flush_ms / 1000)
            state.finishing = True
            hooks.close()
            hooks = None
            _detach(settings)
            if not _finish(capture, publisher):
                return 1
            pins.remove(directory)
            return 0
    finally:  # what is pinned stays: whoever starts next goes on from there
        if hooks is not None:
            hooks.close()
        begun.close()
        if spool is not None:
            spool.close()


@dataclass(slots=True)
class _Run:
    """What captures of one process share."""

    settings: Settings
    publisher: Publisher
    spool: Spool | None
    registry: Registry
    topics: TopicNames
    clock: WallClock
    metrics: ProducerMetrics

    def capture(self, kernel: PinnedRun, *, adopted: bool) -> tuple[Capture, Epochs]:
        """Of a ring. `adopted`: another process has read from it, so it is found out what Kafka and the disk have."""
        settings, state = self.settings, kernel.state
        names = kernel.tables.names() if adopted else {}
        epochs = Epochs(
            maps=kernel.maps,
            state=state,
            clock=self.clock,
            producer_position=kernel.ring.producer_position,
            slots=tuple(slot for number, name in names.items() for slot in slots_of(number, name)),
        )
        safe = Safe(position=kernel.ring.consumer_position())
        if adopted:
            self._find_out(safe, kernel)
            if safe.epoch >= state.open - 1 and state.closing != state.open:
                epochs.confirm(state.open - 1)
        capture = Capture(
            ring=kernel.reader(),
            position=safe.position,
            coalesced=safe.coalesced,
            epochs=epochs,
            clock=self.clock,
            publisher=self.publisher,
            source=Source(node=settings.node, ring_id=state.ring_id, interfaces=tuple(names.items())),
            switches=Switches(kernel.config, settings.capture.orphan_timeout_seconds),
            encoding=Encoding(
                BatchEncoder(self.registry).encode,
                _event_encoder(settings, self.topics),
                self.topics,
                self.clock.monotonic,
            ),
            timing=Timing.of(settings.producer, settings.capture, kernel.ring),
            metrics=self.metrics,
        )
        return capture, epochs

    def _find_out(self, safe: Safe, kernel: PinnedRun) -> None:
        state = kernel.state
        kernel.config.live(self.clock.monotonic() + _TAKE_OVER_NS, self.clock.offset_ns)
        if self.spool is not None and (newest := self.spool.last()) and newest.ring_id == state.ring_id:
            safe.reach(position=newest.ring_end, coalesced=newest.coalesced_end, epoch=newest.epoch)
        read_tail(
            safe,
            settings=self.settings.kafka,
            topic=self.topics.packets,
            node=self.settings.node,
            state=state,
            registry=self.registry,
        )
        log.info(
            "going on from where the last producer ended",
            ring_id=state.ring_id,
            events=(kernel.ring.producer_position() - safe.position) // kernel.ring.stride,
        )

    def drain(self, old: PinnedRun, new: PinnedRun, stop: Stop) -> bool:
        """Send all that another version has left in the kernel, and remove it. False: we are to stop before that."""
        log.info("sending what another version has left", ring_id=old.state.ring_id)
        capture, _ = self.capture(old, adopted=True)
        self.publisher.begin_at(capture.position)
        capture.finish()
        while not capture.is_drained():
            if stop.is_set():
                return False
            new.config.live(self.clock.monotonic() + _TAKE_OVER_NS, self.clock.offset_ns)
            self.publisher.poll(SHORTEST_WAIT)
            capture.step()
        pins.remove(old.directory)
        return True


def _finish(capture: Capture, publisher: Publisher) -> bool:
    """Send what is left and wait for Kafka, for a while. Returns whether all is in Kafka, or on disk."""
    capture.finish()
    deadline = time.monotonic() + FINISH_SECONDS
    while time.monotonic() < deadline and not (capture.is_drained() and not publisher.outbox.entries):
        capture.step()
        publisher.poll(0.02)
    if not capture.is_drained():
        log.error(
            "stopped before kafka had all; what is left waits in the kernel for the next start",
            seconds=FINISH_SECONDS,
            batches=len(publisher.outbox.entries),
            error=publisher.error or "no answer yet",
        )
        return False
    if publisher.outbox.entries:
        log.warning("stopped before kafka had all; what is left waits on disk for the next start")
    else:
        log.info("stopped")
    return True


def _open_spool(settings: Settings, metrics: ProducerMetrics) -> Spool | None:
    if not settings.producer.spool_bytes:
        return None
    directory = settings.data_dir / "spool" / settings.node

    def lost(octets: int, where: str) -> None:
        metrics.spool_lost_bytes.inc(octets)
        log.error("batches on disk are damaged and lost", bytes=octets, where=where)

    try:
        return Spool(directory, limit_bytes=settings.producer.spool_bytes, on_loss=lost)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot use {directory} for batches while Kafka is away: {error.strerror}. "
            "Set data_dir to a folder that can be written, or producer.spool_bytes to 0"
        ) from error


def _detach(settings: Settings) -> None:
    """Remove the hooks. A failure is told, with the way out; what else is to be done at the end goes on."""
    log_path = settings.data_dir / "logs" / f"kernel-{settings.node}.detach.log"
    try:
        child.run("detach", {"node": settings.node}, log=log_path)
    except EnvironmentProblem as error:
        log.warning("could not detach; run: ayaflow detach", error=str(error))


def _event_encoder(settings: Settings, topics: TopicNames) -> EncodeEvents | None:
    if settings.producer.encoding != "record":
        return None
    from schemas.avro.codec import Codec  # brings Arrow: 50 MB that the default encoding does without

    return Codec(settings.schema_registry.url, topics).encode_packet_events


def _hooks(  # noqa: PLR0917  the parts of a run
    settings: Settings, selection: Selection, begun: Begun, capture: Capture, epochs: Epochs, state: State
) -> Hooks:
    def change(names: dict[int, str], watched: tuple[str, ...]) -> None:
        capture.name_interfaces(names)
        state.interfaces = watched

    kernel = begun.kernel
    return Hooks(
        adopted=kernel.tables.names() if begun.adopted else {},
        selection=selection,
        observer=Observer(all_namespaces=settings.capture.namespaces),
        attacher=ChildAttacher(
            node=settings.node,
            run=kernel.state.ring_id,
            pin_directory=kernel.directory,
            log=settings.data_dir / "logs" / f"kernel-{settings.node}.hook.log",
        ),
        tables=kernel.tables,
        epochs=epochs,
        monotonic=time.monotonic_ns,
        on_change=change,
    )
