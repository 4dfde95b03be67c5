"""`ayaflow producer`: watches this node's interfaces until it is told to stop."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FrameType

from common import logs
from common.errors import EnvironmentProblem, SettingsError
from common.metrics import MetricsServer
from common.settings import Settings
from producer import bpfsys, child, interfaces, pins
from producer.batch import Source
from producer.capture import Capture, EncodeEvents, Timing
from producer.clock import WallClock
from producer.epochs import Epochs, KernelCounterMaps
from producer.event import record_of
from producer.health import State, health
from producer.hooks import Hooks, PinnedTables
from producer.interfaces import Selection
from producer.metrics import ProducerMetrics
from producer.observing import Observer
from producer.outbox import Entry
from producer.publish import Publisher, open_kafka
from producer.ring import Ring
from schemas.packet_encoder import BatchEncoder
from schemas.registry import open_registry
from schemas.topics import TopicNames

LONGEST_WAIT = 0.05  # seconds between two looks at the ring: what a packet may wait besides flush_ms
SHORTEST_WAIT = 0.001
FINISH_SECONDS = 10.0
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_BPF": 39}
_CAP_SYS_ADMIN = 21

log = logs.get("producer")


def run(settings: Settings) -> int:
    """Watch until SIGINT or SIGTERM -> exit code. Raises AyaflowError when it cannot begin."""
    check_privileges()
    page = os.sysconf("SC_PAGE_SIZE")
    size = settings.capture.ring_bytes
    if size & (size - 1) or size < page:
        raise SettingsError(f"capture.ring_bytes: {size} is not a power of two of at least {page}")
    selection = Selection.of(settings.capture.interfaces)
    interfaces.check(selection, interfaces.Links.of_this_machine())
    with _stop_on_signals() as stop:
        pins.mount(settings.capture.bpffs)
        directory = pins.node_directory(settings.capture.bpffs, settings.node)
        try:
            with pins.locked(directory):
                return _run_locked(settings, selection, directory, stop)
        except OSError as error:
            raise EnvironmentProblem(f"{error.strerror or error}: {error.filename or directory}") from error


def check_privileges(status: str | None = None) -> None:
    """Raise EnvironmentProblem unless we may load and attach. `status`: the text of /proc/self/status."""
    text = status if status is not None else Path("/proc/self/status").read_text("ascii")
    effective = next((int(line.split()[1], 16) for line in text.splitlines() if line.startswith("CapEff:")), 0)
    lacking = [
        name
        for name, bit in _CAPABILITIES.items()
        if not effective >> bit & 1 and not (name == "CAP_BPF" and effective >> _CAP_SYS_ADMIN & 1)
    ]
    if lacking:
        raise EnvironmentProblem(
            f"the producer loads a program into the kernel and lacks {' and '.join(lacking)}: run it as root (sudo)"
        )


def _run_locked(settings: Settings, selection: Selection, directory: Path, stop: threading.Event) -> int:
    logs_directory = settings.data_dir / "logs"
    log_path = logs_directory / f"kernel-{settings.node}.log"
    metrics, state = ProducerMetrics(), State(settings.node)
    clock = WallClock()
    topics = TopicNames.of(settings.kafka.topic_prefix)
    encode_batch = BatchEncoder(open_registry(settings.schema_registry.url, topics)).encode

    def done(entry: Entry, now_ns: int) -> None:
        state.packets += entry.packets
        metrics.batches.inc()
        metrics.ack_seconds.observe((now_ns - entry.sent_ns) / 1e9)

    publisher = Publisher(
        node=settings.node,
        position=0,
        open_transport=partial(open_kafka, settings.kafka),
        monotonic=clock.monotonic,
        on_done=done,
    )
    started = time.monotonic()
    request = {
        "node": settings.node, "pin_directory": str(directory),
        "ring_pages": settings.capture.ring_bytes // os.sysconf("SC_PAGE_SIZE"),
        "decapsulate": settings.capture.decapsulate,
    }  # fmt: skip
    ring: Ring | None = None
    hooks: Hooks | None = None
    attached = False
    try:
        answer = child.run("load", request, log=log_path)
        attached = True
        record = record_of(settings.capture.decapsulate)
        ring = Ring(bpfsys.obj_get(directory / "events"), settings.capture.ring_bytes, record)
        epochs = Epochs(
            maps=_counter_maps(directory),
            clock=clock,
            producer_position=ring.producer_position,
            opened_ns=answer["opened_ns"],
        )
        capture = Capture(
            ring=ring,
            position=0,
            epochs=epochs,
            clock=clock,
            publisher=publisher,
            source=Source(node=settings.node, ring_id=time.time_ns(), interfaces=()),
            encode_batch=encode_batch,
            encode_events=_event_encoder(settings, topics),
            topics=topics,
            timing=Timing.of(settings.producer, settings.capture.epoch_ms, ring),
            metrics=metrics,
        )
        hooks = _hooks(settings, selection, directory, log_path, capture, epochs, state)
        hooks.begin()
        report = partial(health, state, publisher, capture)
        with MetricsServer(settings.producer.metrics_listen, "producer.metrics_listen", report):
            log.info(
                "watching",
                node=settings.node,
                interfaces=",".join(state.interfaces) or "none yet",
                seconds=round(time.monotonic() - started, 2),
            )
            _watch(capture, publisher, hooks, metrics, ring, stop)
            state.finishing = True
            hooks.close()
            hooks = None
            _detach(settings.node, log_path)
            attached = False
            return _finish(capture, publisher)
    finally:
        if hooks is not None:
            hooks.close()
        if attached:
            _detach(settings.node, log_path)
        if ring is not None:
            with contextlib.suppress(BufferError):  # an error's traceback may hold a span
                ring.close()
        pins.remove(directory)


def _watch(  # noqa: PLR0917  the parts of a run
    capture: Capture,
    publisher: Publisher,
    hooks: Hooks,
    metrics: ProducerMetrics,
    ring: Ring,
    stop: threading.Event,
) -> None:
    """Read and send until we are told to stop. Looks so often that the ring fills by an eighth in between."""
    wait, last = LONGEST_WAIT, time.monotonic()
    while not stop.is_set():
        if publisher.outbox.in_flight:
            publisher.poll(wait)
        else:  # a plain sleep costs a third of the client's
            time.sleep(wait)
            publisher.poll(0)
        read = capture.step()
        hooks.oldest_epoch = capture.oldest_epoch
        hooks.step()
        now = time.monotonic()
        rate, last = read * ring.stride / max(now - last, 1e-6), now
        wait = min(LONGEST_WAIT, max(SHORTEST_WAIT, ring.size / 8 / rate)) if rate else LONGEST_WAIT
        metrics.ring_fill.set(capture.ring_fill)
        metrics.queue.set(publisher.outbox.in_flight)


def _finish(capture: Capture, publisher: Publisher) -> int:
    """Send what is left and wait for Kafka, for a while."""
    capture.finish()
    deadline = time.monotonic() + FINISH_SECONDS
    while time.monotonic() < deadline and not (capture.is_drained() and not publisher.outbox.entries):
        capture.step()
        publisher.poll(0.02)
    lost = sum(entry.packets for entry in publisher.outbox.entries)
    if publisher.outbox.entries or not capture.is_drained():
        log.error(
            "stopped before kafka had all",
            seconds=FINISH_SECONDS,
            batches=len(publisher.outbox.entries),
            packets_at_least=lost,
            error=publisher.error or "no answer yet",
        )
        return 1
    log.info("stopped")
    return 0


def _detach(node: str, log_path: Path) -> None:
    """Remove the hooks. A failure is told, with the way out; what else is to be done at the end goes on."""
    try:
        child.run("detach", {"node": node}, log=log_path.with_suffix(".detach.log"))
    except EnvironmentProblem as error:
        log.warning("could not detach; run: ayaflow detach", error=str(error))


def _event_encoder(settings: Settings, topics: TopicNames) -> EncodeEvents | None:
    if settings.producer.encoding != "record":
        return None
    from schemas.codec import Codec  # brings Arrow: 50 MB that the default encoding does without

    return Codec(settings.schema_registry.url, topics).encode_packet_events


def _counter_maps(directory: Path) -> KernelCounterMaps:
    first, second = (bpfsys.obj_get(directory / name) for name in ("counters_a", "counters_b"))
    return KernelCounterMaps(bpfsys.obj_get(directory / "open_epoch"), (first, second))


def _hooks(  # noqa: PLR0917  the parts of a run
    settings: Settings,
    selection: Selection,
    directory: Path,
    log_path: Path,
    capture: Capture,
    epochs: Epochs,
    state: State,
) -> Hooks:
    def change(names: dict[int, str], watched: tuple[str, ...]) -> None:
        capture.name_interfaces(names)
        state.interfaces = watched

    return Hooks(
        node=settings.node,
        directory=directory,
        selection=selection,
        observer=Observer(all_namespaces=settings.capture.namespaces),
        tables=PinnedTables(bpfsys.obj_get(directory / "interfaces"), bpfsys.obj_get(directory / "watched")),
        epochs=epochs,
        log_path=log_path.with_suffix(".hook.log"),
        monotonic=time.monotonic_ns,
        on_change=change,
    )


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """Set by SIGINT and SIGTERM. Outside the main thread nothing can set it but its owner."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
