"""Messages that cannot be read are set aside in the dead-letter topic, and reading goes on behind them."""

from functools import partial

from common import logs
from streams.metrics import Metrics
from streams.worker.clock import Clock
from streams.worker.lane import Held
from streams.worker.neighbours import Message, Publisher
from streams.worker.retrying import KAFKA, Retrying

log = logs.get("streams")

_LOG_EVERY = 10.0  # seconds between two lines; the metric and the topic have all messages


class DeadLetters:
    """Sends messages to the dead-letter topic, and counts them."""

    def __init__(
        self, publisher: Publisher, metrics: Metrics, again: Retrying, clock: Clock, *, topic: str | None = None
    ) -> None:
        """`topic`: that the messages are of; None: the packets."""
        self._topic = topic
        self._publisher, self._metrics, self._again, self._clock = publisher, metrics, again, clock
        self._said = 0.0
        self.count = 0

    async def send(self, lane: Held, message: Message, error: str) -> None:
        """Until Kafka has it. Raises Released when the partition goes before."""
        now = self._clock.time()
        if now - self._said >= _LOG_EVERY:
            log.warning(
                "set a message aside",
                partition=message.partition,
                offset=message.offset,
                error=error,
                topic="dead-letter",
                before=self.count,
            )
            self._said = now
        send = partial(
            self._publisher.dead_letter,
            message.value,
            message.key,
            partition=message.partition,
            offset=message.offset,
            error=error,
            topic=self._topic,
        )
        await self._again.insist(KAFKA, lane.at(), lane.closing, send)
        self._metrics.dead_letters.inc()
        self.count += 1
