"""Sending the kernel's flow table of a closed epoch, once all its events have been sent. Does no I/O of its own."""

from common.errors import ServiceUnavailable
from producer.capture.batch import build_coalesced
from producer.capture.closer import EpochCloser, Unsent
from producer.capture.sender import Sender
from producer.capture.timing import Timing
from producer.clock import WallClock
from producer.kafka.encoding import send_divided


class FlowTableSender:
    """Sends entries in batches of their own; the last one closes the epoch."""

    def __init__(self, *, closer: EpochCloser, sender: Sender, clock: WallClock, timing: Timing) -> None:
        self._closer, self._sender, self._clock, self._timing = closer, sender, clock, timing

    def send(self, ring_position: int) -> None:
        """Send what there is room for, if the events before `ring_position` have been sent."""
        unsent = self._closer.unsent
        if unsent is None or not unsent.entries_left or ring_position < unsent.epoch.end_position:
            return
        first = unsent.entries_sent
        try:
            send_divided(
                unsent.entries_left,
                lambda begin, end: self._send_part(unsent, first + begin, first + end, ring_position),
                most=self._timing.batch_entries,
                has_room=self._sender.has_room,
            )
        except ServiceUnavailable:
            return  # the rest stays

    def _send_part(self, unsent: Unsent, begin: int, end: int, ring_position: int) -> bool:
        """Send one batch. False: it is too large."""
        closed, sender = unsent.epoch, self._sender
        is_last = end == len(closed.flows)
        events = build_coalesced(
            closed.flows[begin:end],
            start=closed.coalesced_start + begin,
            source=sender.source,
            epoch=closed.number,
            ring_position=ring_position,
            offset_ns=self._clock.offset_ns,
            sequence=sender.sequence,
            clock_ns=closed.clock_ns if is_last else sender.clock_ns,
            counters=closed.counters if is_last else (),
            idle_ns=closed.idle_ns if is_last else (0, 0),
        )
        if not sender.send(events, closes=closed.number if is_last else None):
            return False
        unsent.entries_sent = end
        if is_last:
            self._closer.sent()
        return True
