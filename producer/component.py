"""`ayaflow producer`: watches this node's interfaces until it is told to stop."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from common import logs
from common.errors import AyaflowError, EnvironmentProblem, SettingsError
from common.settings import Settings
from common.stopping import END_SECONDS, stop_on_signals
from producer.capture import columns
from producer.capture.capture import Capture
from producer.capture.epochs import Epochs
from producer.interfaces import selection as interfaces
from producer.interfaces.selection import Selection
from producer.kafka.progress import Progress
from producer.kernel import environment, pins
from producer.kernel.begin import begin
from producer.kernel.load import permission
from producer.kernel.run_state import RunState
from producer.parts import NodeParts, refused
from producer.roles import account as user
from producer.roles.privileged import Privileged
from producer.watch import SHORTEST_WAIT, Follows, Waits, watch
from schemas.avro import native

FINISH_SECONDS = 10.0
_LOOK_SECONDS = 0.02  # for what Kafka says, at the end

log = logs.get("producer")


def run(settings: Settings) -> int:
    """Watch until SIGINT or SIGTERM -> exit code. Raises AyaflowError when it cannot begin."""
    environment.check_privileges()
    environment.check_kernel()
    permission.check_bpf()
    if not (native.IS_COMPILED and columns.IS_COMPILED):
        log.warning("numpy does what was not compiled, slower; install gcc, then run make setup (or pip install) again")
    page = os.sysconf("SC_PAGE_SIZE")
    for name in ("ring_bytes", "inspect_ring_bytes"):
        size: int = getattr(settings.capture, name)
        if size & (size - 1) or size < page:
            raise SettingsError(f"capture.{name}: {size} is not a power of two of at least {page}")
    selection = Selection.of(settings.capture.interfaces)
    interfaces.check(selection, interfaces.Links.of_this_machine())
    with stop_on_signals(within=END_SECONDS) as stop, contextlib.ExitStack() as held:
        pins.mount(settings.capture.bpffs)
        directory = pins.node_directory(settings.capture.bpffs, settings.node)
        with refused(directory):
            held.enter_context(pins.locked(directory))
        return Run(held.enter_context(_begun(settings, selection, directory)), stop).run()


@contextlib.contextmanager
def _begun(settings: Settings, selection: Selection, directory: Path) -> Iterator[NodeParts]:
    """What needs privileges is done, in the only thread; then there are none, and the parts of a run are made."""
    began = time.monotonic()
    folders = () if not settings.producer.spool_bytes else (settings.data_dir / "spool" / settings.node,)
    account = user.chosen(settings.producer.user, data_dir=settings.data_dir, folders=folders)
    logs_folder = settings.data_dir / "logs"
    with refused(directory):
        begun = begin(settings.capture, directory=directory, logs=logs_folder)
    with contextlib.ExitStack() as undo:
        undo.callback(begun.close)
        helper = undo.enter_context(
            Privileged.begin(
                node=settings.node, directory=directory, logs=logs_folder, elsewhere=settings.capture.namespaces
            )
        )
        if not begun.adopted:
            undo.callback(_forget, helper, str(begun.kernel.state.ring_id))
        made = NodeParts(settings, selection, begun, helper, began=began)  # reads a key that may be root's
        user.become(account)
        with made as parts:
            undo.pop_all()
            with helper:
                yield parts


def _forget(helper: Privileged, run: str) -> None:
    """What was loaded and is attached nowhere."""
    with contextlib.suppress(EnvironmentProblem):
        helper.remove("hooks", run)
        helper.remove("files")


class Remembers(Protocol):
    """What we use of kernel.run.PinnedRun."""

    @property
    def state(self) -> RunState:
        """What the next process finds."""


K = TypeVar("K", bound=Remembers)
K_co = TypeVar("K_co", bound=Remembers, covariant=True)


class Begun(Protocol[K_co]):
    """What we use of kernel.begin.Begun."""

    @property
    def kernel(self) -> K_co:
        """The run that we watch with."""

    @property
    def adopted(self) -> bool:
        """An earlier process has made it."""

    @property
    def old(self) -> tuple[K_co, ...]:
        """Of other versions or settings: to be sent to their ends when our hooks are there."""

    def close(self) -> None:
        """Close the maps; what is pinned stays."""


class Hooks(Follows, Protocol):
    """What we use of hooks.Hooks."""

    def begin(self) -> None:
        """Attach to all that is there, and wait for it. Raises AyaflowError."""

    def close(self) -> None:
        """Stop; the hooks stay for `detach`."""


class Publishes(Protocol):
    """What we use of publisher.Publisher."""

    @property
    def progress(self) -> Progress:
        """As it was at the last `poll`."""

    def begin_at(self, position: int, partition: int, names: tuple[int, int]) -> None:
        """From now on the batches of another ring come, from this position on; the last is in this partition.

        `names`: see capture.Capture.
        """

    def poll(self, seconds: float) -> Progress:
        """Handle what Kafka has answered; wait up to `seconds` for it."""


class Parts(Protocol[K]):
    """What a run consists of; parts.NodeParts makes it."""

    flush_seconds: float  # that a packet may wait

    @property
    def publisher(self) -> Publishes:
        """Of all captures."""

    def begin(self) -> Begun[K]:
        """Adopt what is pinned, or load."""

    def alive(self, runs: Sequence[K]) -> AbstractContextManager[object]:
        """Lets the kernel programs of these runs count while it is open."""

    def epochs(self, kernel: K, *, adopted: bool) -> Epochs:
        """Of a run, which another process may have begun."""

    def capture(self, kernel: K, epochs: Epochs, *, adopted: bool) -> Capture:
        """Of a ring, which another process may have read from. May wait for Kafka and the registry, for seconds."""

    def hooks(self, kernel: K, epochs: Epochs, *, adopted: bool) -> Hooks:
        """What attaches the program to interfaces."""

    def served(self, capture: Capture) -> AbstractContextManager[None]:
        """/metrics and /health."""

    def detach(self) -> None:
        """Remove the hooks."""

    def unpin(self, kernel: K) -> None:
        """Remove a run from the kernel."""

    def unpin_all(self) -> None:
        """Remove all that is pinned."""


class Run(Generic[K]):
    """One process's part of watching a node: from what the one before has left to what the next one finds.

    However it ends, what was opened is closed, the last first. What is pinned stays, unless all of it was sent: whoever
    starts next goes on from there.
    """

    def __init__(self, parts: Parts[K], stop: Waits, monotonic: Callable[[], int] = time.monotonic_ns) -> None:
        self._parts, self._publisher, self._stop, self._monotonic = parts, parts.publisher, stop, monotonic

    def run(self) -> int:
        """Watch until we are told to stop -> exit code; 0: all is in Kafka, or on disk. Raises AyaflowError."""
        parts = self._parts
        with contextlib.ExitStack() as opened:
            begun = opened.enter_context(contextlib.closing(parts.begin()))
            opened.enter_context(parts.alive((begun.kernel, *begun.old)))
            epochs = parts.epochs(begun.kernel, adopted=begun.adopted)
            with contextlib.closing(parts.hooks(begun.kernel, epochs, adopted=begun.adopted)) as hooks:
                self._attach(hooks, begun)
                capture = parts.capture(begun.kernel, epochs, adopted=begun.adopted)
                opened.enter_context(parts.served(capture))
                drained = all(self._drain(old, hooks) for old in begun.old)
                if drained:
                    self._watch(hooks, capture, begun.kernel)
            parts.detach()
            if not drained or not self._finish(capture):
                return 1
            parts.unpin_all()
            return 0

    def _attach(self, hooks: Hooks, begun: Begun[K]) -> None:
        try:
            with refused("attaching the program"):
                hooks.begin()
        except AyaflowError:
            if not begun.adopted:  # else it goes on counting for whoever starts next
                self._parts.detach()
                self._parts.unpin(begun.kernel)
            raise

    def _drain(self, old: K, hooks: Hooks) -> bool:
        """Send all that another version has left in the kernel, and remove it. False: we are to stop before that."""
        log.info("sending what another version has left", ring_id=old.state.ring_id)
        capture = self._parts.capture(old, self._parts.epochs(old, adopted=True), adopted=True)
        self._publisher.begin_at(capture.position, old.state.kafka_partition, capture.names)
        capture.finish()
        while not capture.is_drained():
            if self._stop.is_set():
                return False
            capture.step(self._publisher.poll(SHORTEST_WAIT))
            hooks.step()
        self._parts.unpin(old)
        return True

    def _watch(self, hooks: Hooks, capture: Capture, kernel: K) -> None:
        self._publisher.begin_at(capture.position, kernel.state.kafka_partition, capture.names)
        watch(
            stop=self._stop,
            publisher=self._publisher,
            capture=capture,
            hooks=hooks,
            state=kernel.state,
            longest=self._parts.flush_seconds,
            monotonic=self._monotonic,
        )

    def _finish(self, capture: Capture) -> bool:
        """Send what is left and wait for Kafka, for a while. Returns whether all is in Kafka, or on disk."""
        capture.finish()
        progress = self._publisher.progress
        deadline = self._monotonic() + int(FINISH_SECONDS * 1e9)
        while self._monotonic() < deadline and (progress.unacknowledged or not capture.is_drained()):
            capture.step(progress)
            progress = self._publisher.poll(_LOOK_SECONDS)
        if not capture.is_drained():
            log.error(
                "stopped before kafka had all; what is left waits in the kernel for the next start",
                seconds=FINISH_SECONDS,
                batches=progress.unacknowledged,
                error=progress.error or "no answer yet",
            )
            return False
        if progress.unacknowledged:
            log.warning("stopped before kafka had all; what is left waits on disk for the next start")
        else:
            log.info("stopped")
        return True
