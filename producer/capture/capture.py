"""From the ring to batches: three machines, each of which does what is due. Does no I/O of its own."""

from dataclasses import replace

from producer.capture.batch import Source
from producer.capture.closer import EpochCloser
from producer.capture.coalescing import Coalescing, KernelSwitches
from producer.capture.cutter import RingCutter, RingReader
from producer.capture.epochs import Epochs
from producer.capture.flow_table import FlowTableSender
from producer.capture.sender import Outlet, Sender
from producer.capture.timing import Timing
from producer.clock import WallClock
from producer.inspection.inspection import Inspects, NoInspection
from producer.kafka.encoding import Encoder
from producer.kafka.progress import Progress
from producer.metrics import ProducerMetrics


class Capture:
    """One run of one ring. Call `step` again and again; `finish` at the end."""

    def __init__(
        self,
        *,
        ring: RingReader,
        position: int,
        coalesced: int = 0,
        epochs: Epochs,
        clock: WallClock,
        outlet: Outlet,
        source: Source,
        switches: KernelSwitches,
        encoding: Encoder,
        timing: Timing,
        metrics: ProducerMetrics,
        inspection: Inspects | None = None,
    ) -> None:
        """`position`: of the ring, where reading begins. `coalesced`: entries of flow tables below it are safe."""
        self._inspection: Inspects = inspection or NoInspection()
        sender = Sender(
            source=source,
            encoding=encoding,
            outlet=outlet,
            metrics=metrics,
            coalesced=coalesced,
            inspection=self._inspection,
        )
        closer = EpochCloser(
            epochs, clock=clock, timing=timing, metrics=metrics, position=position, coalesced=coalesced
        )
        self.ring_bytes = ring.size
        self._clock, self._timing, self._sender, self._closer = clock, timing, sender, closer
        self._cutter = RingCutter(ring, position=position, closer=closer, sender=sender, clock=clock, timing=timing)
        self._flow_table = FlowTableSender(closer=closer, sender=sender, clock=clock, timing=timing)
        self._coalescing = Coalescing(switches, only_flows=timing.only_flows)

    @property
    def position(self) -> int:
        """Of the ring: what lies before it is safe."""
        return self._cutter.released

    @property
    def names(self) -> tuple[int, int]:
        """Of the ring of copies, likewise; and up to when names were waited for (Unix epoch, ns)."""
        return self._inspection.safe

    @property
    def ring_fill(self) -> float:
        """Part of the ring that is in use."""
        return self._cutter.fill

    @property
    def names_fault(self) -> str | None:
        """Why no names are read, a sentence; None: they are, or are not wanted."""
        return self._inspection.fault

    @property
    def copies_fill(self) -> float:
        """Part of the ring of copies that is not read."""
        return self._inspection.fill

    @property
    def coalescing(self) -> bool:
        """Whether packets are added up by flow, because we said so."""
        return self._coalescing.active

    @property
    def overwhelmed(self) -> bool:
        """Whether they are because the ring fills."""
        return self._coalescing.overwhelmed

    def step(self, progress: Progress) -> int:
        """Do what is due, after what Kafka has answered. Returns how many octets of the ring were read."""
        now, cutter, closer = self._clock.monotonic(), self._cutter, self._closer
        cutter.release(progress.released)
        self._inspection.step(progress.names)
        closer.confirm(progress.epoch)
        self._coalescing.choose(now, cutter.fill)
        before = cutter.read
        cutter.cut(now)
        if closer.is_due(now, cutter.read):
            closer.close()
            cutter.cut(now)
        cutter.flush(progress.waiting_ns(now))
        self._flow_table.send(cutter.start)
        return cutter.read - before

    def patience(self, longest: float) -> float:
        """Seconds until `step` has something to do: `longest` when a packet may come at any time."""
        if not self._timing.only_flows or self._cutter.read != self._cutter.released or self._closer.entries_left:
            return min(longest, self._inspection.longest_wait)
        return min(self._closer.due_in(), self._inspection.longest_wait)

    def name_interfaces(self, names: dict[int, str]) -> None:
        """The interfaces' names by slot; before there are events of a new one."""
        self._sender.source = replace(self._sender.source, interfaces=tuple(names.items()))

    def finish(self) -> None:
        """The hooks are gone: close the last epoch as soon as it may be. From now on `step` only sends what is left."""
        self._closer.finish()
        self._inspection.finish()

    def is_drained(self) -> bool:
        """Whether all is safe, after `finish`."""
        return self._closer.is_drained
