"""The parts of a run, made from the settings: each knows only what it depends on."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from common import logs
from common.errors import EnvironmentProblem
from common.metrics import MetricsServer
from common.settings import Settings
from producer.capture.batch import Source
from producer.capture.capture import Capture
from producer.capture.closer import HEARTBEAT_NS
from producer.capture.devices import Devices
from producer.capture.epochs import Epochs, slots_of
from producer.capture.heartbeat import Heartbeat
from producer.capture.timing import Timing
from producer.clock import WallClock
from producer.health import Status, health
from producer.inspection.inspection import Inspection
from producer.interfaces.attach.attacher import ChildAttacher
from producer.interfaces.hooks import Hooks
from producer.interfaces.observer import Observer
from producer.interfaces.selection import Selection
from producer.interfaces.troubles import Trouble, by_reason
from producer.kafka.client import open_kafka
from producer.kafka.encoding import PatientEncoding, open_encoding
from producer.kafka.outbox import Entry
from producer.kafka.publisher import Publisher
from producer.kafka.spool import Spool
from producer.kafka.tail import Safe, TailReader, open_tail
from producer.kernel.begin import Begun
from producer.kernel.maps import Life
from producer.kernel.run import PinnedRun
from producer.metrics import ProducerMetrics
from producer.roles.privileged import Machine, Privileged
from schemas.avro.registry import open_registry
from schemas.topics import TopicNames

if TYPE_CHECKING:
    from producer.inspection.opening import OpenedNames

log = logs.get("producer")


class NodeParts:
    """Obeys component.Parts, for this node. A context manager: what all captures share is closed at its end."""

    def __init__(
        self, settings: Settings, selection: Selection, begun: Begun, helper: Privileged, *, began: float
    ) -> None:
        """`begun`: what the kernel has of us. `helper`: does what we may not. `began`: when this process did.

        Raises EnvironmentProblem, SettingsError: of what names are read with.
        """
        self._settings, self._selection, self._begun, self._helper = settings, selection, begun, helper
        self._shared = contextlib.ExitStack()
        self._topics = TopicNames.of(settings.kafka.topic_prefix)
        self._clock, self._metrics, self._status = WallClock(), ProducerMetrics(), Status(settings.node)
        self._status.quiet_seconds = max(settings.capture.epoch_ms * 1_000_000, HEARTBEAT_NS) / 1e9
        self._capture: Capture | None = None  # of the run that we watch with
        self._devices: Devices | None = None  # likewise
        inspects = any(run.copies is not None for run in (begun.kernel, *begun.old))
        self._names = _opened_names(settings) if inspects else None
        self._interfaces = set[str]()  # of which something may still be counted
        self._began = began
        self.flush_seconds = settings.producer.flush_ms / 1000

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opened:
            settings, url = self._settings, self._settings.schema_registry.url
            self._spool = opened.enter_context(contextlib.closing(spool)) if (spool := self._open_spool()) else None
            encoding = opened.enter_context(
                contextlib.closing(open_encoding(settings.producer.encoding, url, self._topics))
            )
            self._encoding = PatientEncoding(encoding, self._clock.monotonic)
            self.publisher = Publisher(
                node=settings.node,
                position=0,
                open_transport=partial(open_kafka, settings.kafka),
                monotonic=self._clock.monotonic,
                names_topic=self._topics.names,
                spool=self._spool,
                on_done=self._done,
            )
            self._shared = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._shared.close()

    def begin(self) -> Begun:
        """What was adopted, or loaded."""
        return self._begun

    def alive(self, runs: Sequence[PinnedRun]) -> Heartbeat:
        """Lets the kernel programs of these runs count while it is open."""
        seconds = self._settings.capture.orphan_timeout_seconds
        return Heartbeat([Life(run.config, run.state, seconds) for run in runs], self._clock)

    def epochs(self, kernel: PinnedRun, *, adopted: bool) -> Epochs:
        """Of a run. `adopted`: another process has begun it."""
        names = kernel.tables.names() if adopted else {}
        return Epochs(
            maps=kernel.maps,
            state=kernel.state,
            clock=self._clock,
            producer_position=kernel.ring.producer_position,
            slots=tuple(slot for number, name in names.items() for slot in slots_of(number, name)),
        )

    def capture(self, kernel: PinnedRun, epochs: Epochs, *, adopted: bool) -> Capture:
        """Of a ring. `adopted`: another process has read from it, so it is found out what Kafka and the disk have."""
        settings, state = self._settings, kernel.state
        safe = Safe(position=kernel.ring.consumer_position())
        if kernel.copies is not None:
            safe.reach_names(max(kernel.copies.consumer_position(), state.names_position), state.names_ns)
        if adopted:
            self._find_out(safe, kernel)
            if safe.epoch >= state.open - 1 and state.closing != state.open:
                epochs.confirm(state.open - 1)
        ring = kernel.reader()
        kernel.config.inspect(settings.capture.inspect_budget)
        capture = Capture(
            ring=ring,
            position=safe.position,
            coalesced=safe.coalesced,
            epochs=epochs,
            clock=self._clock,
            outlet=self.publisher,
            source=Source(node=settings.node, ring_id=state.ring_id, interfaces=tuple(kernel.tables.names().items())),
            switches=kernel.config,
            encoding=self._encoding,
            timing=Timing.of(settings.producer, settings.capture, ring_bytes=ring.size, stride=ring.stride),
            metrics=self._metrics,
            inspection=self._inspection(kernel, safe),
        )
        if kernel is self._begun.kernel:
            self._capture = capture
        return capture

    def hooks(self, kernel: PinnedRun, epochs: Epochs, *, adopted: bool) -> Hooks:
        """What attaches the program to interfaces. Raises EnvironmentProblem."""
        settings = self._settings

        def change(names: dict[int, str], watched: tuple[str, ...], troubles: tuple[Trouble, ...]) -> None:
            if self._capture is not None:  # else it will read them in the kernel's tables
                self._capture.name_interfaces(names)
            self._status.interfaces, self._status.unknown_links = watched, hooks.unknown_links
            self._status.troubles = troubles
            self._interfaces = set(names.values())
            self._metrics.keep(self._interfaces)
            self._metrics.unwatched(by_reason(troubles))

        with refused("rtnetlink"):
            observer = Observer(all_namespaces=settings.capture.namespaces, machine=Machine(self._helper))
        hooks = Hooks(
            adopted=kernel.tables.names() if adopted else {},
            selection=self._selection,
            observer=observer,
            attacher=ChildAttacher(self._helper, run=kernel.state.ring_id),
            tables=kernel.tables,
            epochs=epochs,
            monotonic=time.monotonic_ns,
            on_change=change,
        )
        epochs.devices.follow(hooks.device_counts)
        self._devices = epochs.devices
        return hooks

    @contextlib.contextmanager
    def served(self, capture: Capture) -> Iterator[None]:
        """/metrics and /health. Raises EnvironmentProblem."""
        publisher, settings = self.publisher, self._settings
        self._metrics.show(
            ring_fill=lambda: capture.ring_fill,
            copies_fill=lambda: capture.copies_fill,
            coalescing=lambda: capture.coalescing,
            progress=lambda: publisher.progress,
            monotonic=self._clock.monotonic,
        )

        def report() -> dict[str, object]:
            return health(
                self._status,
                publisher.progress,
                encoding_error=self._encoding.error,
                helper_error=self._helper.problem,
                names_fault=capture.names_fault,
                ring_fill=capture.ring_fill,
                coalescing=capture.coalescing,
                holes=self._devices.holes if self._devices else (),
                now_ns=self._clock.monotonic(),
            )

        with MetricsServer(settings.producer.metrics_listen, "producer.metrics_listen", report):
            log.info(
                "watching",
                node=settings.node,
                interfaces=",".join(self._status.interfaces) or "none yet",
                seconds=round(time.monotonic() - self._began, 2),
            )
            yield

    def detach(self) -> None:
        """Remove the hooks. A failure is told, with the way out; what else is to be done at the end goes on."""
        try:
            self._helper.start("detach", {}).wait()
        except EnvironmentProblem as error:
            log.warning("could not detach; run: ayaflow detach", error=str(error))
        self._remove("hooks")  # also those on interfaces that have moved to where nobody looks

    def unpin(self, kernel: PinnedRun) -> None:
        """Remove a run from the kernel."""
        run = str(kernel.state.ring_id)
        self._remove("hooks", run)
        if kernel is self._begun.kernel:
            self._remove("files")
        else:
            self._remove("aside", run)
            self._metrics.keep(self._interfaces)  # others were counted there

    def unpin_all(self) -> None:
        """Remove all that is pinned, and the folder."""
        self._remove("all")

    def _remove(self, what: str, run: str | None = None) -> None:
        try:
            self._helper.remove(what, run)
        except EnvironmentProblem as error:
            log.warning("what is pinned stays; run: ayaflow detach", what=what, error=str(error))

    def _find_out(self, safe: Safe, kernel: PinnedRun) -> None:
        """What Kafka and the disk have of a run."""
        settings, state = self._settings, kernel.state
        if self._spool is not None and (newest := self._spool.last()) and newest.ring_id == state.ring_id:
            safe.reach(position=newest.ring_end, coalesced=newest.coalesced_end, epoch=newest.epoch)
            safe.reach_names(newest.names_end, newest.names_ns)
        with contextlib.closing(open_registry(settings.schema_registry.url, self._topics)) as registry:
            TailReader(
                open_tail=partial(open_tail, settings.kafka, settings.node),
                registry=registry,
                topic=self._topics.packets,
                node=settings.node,
                written=kernel.ring.producer_position(),
                names_topic=self._topics.names if kernel.copies else "",
                names_written=kernel.copies.producer_position() if kernel.copies else 0,
            ).read(safe, state)
        log.info(
            "going on from where the last producer ended",
            ring_id=state.ring_id,
            events=(kernel.ring.producer_position() - safe.position) // kernel.ring.stride,
        )

    def _inspection(self, kernel: PinnedRun, safe: Safe) -> Inspection | None:
        """What reads the copies of a run."""
        if kernel.copies is None or self._names is None:
            return None
        return Inspection(
            kernel.copies,
            self._names.reading(kernel.copies.consumer_position(), self._metrics.read_names),
            clock=self._clock,
            encoding=self._encoding,
            start=kernel.copies.consumer_position(),
            safe=safe.names,
            safe_ns=safe.names_ns,
        )

    def _open_spool(self) -> Spool | None:
        settings = self._settings
        if not settings.producer.spool_bytes:
            return None
        directory = settings.data_dir / "spool" / settings.node

        def lost(octets: int, where: str) -> None:
            self._metrics.spool_lost_bytes.inc(octets)
            log.error("batches on disk are damaged and lost", bytes=octets, where=where)

        try:
            return Spool(directory, limit_bytes=settings.producer.spool_bytes, on_loss=lost)
        except OSError as error:
            raise EnvironmentProblem(
                f"cannot use {directory} for batches while Kafka is away: {error.strerror}. "
                "Set data_dir to a folder that can be written, or producer.spool_bytes to 0"
            ) from error

    def _done(self, entry: Entry, now_ns: int) -> None:
        self._status.packets += entry.batch.packets
        self._metrics.batches.inc()
        self._metrics.ack_seconds.observe((now_ns - entry.sent_ns) / 1e9)


@contextlib.contextmanager
def refused(what: str | Path) -> Iterator[None]:
    """An OSError in here is this machine's refusal: said as EnvironmentProblem."""
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(f"{error.strerror or error}: {error.filename or what}") from error


def _opened_names(settings: Settings) -> "OpenedNames":
    """What all inspections share. Raises EnvironmentProblem, SettingsError."""
    from producer.inspection.opening import OpenedNames  # brings cryptography

    return OpenedNames(settings.names)
