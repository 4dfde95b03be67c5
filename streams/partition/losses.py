"""What of a partition is lost and waits to be written down; nothing behind it is acknowledged before. Pure."""

from collections.abc import Sequence

from schemas.flows import Loss


class Losses:
    """Those of one partition."""

    def __init__(self, of_messages: str) -> None:
        """`of_messages`: the kind, of schemas.flows.LOSS_KINDS, of messages of its topic."""
        self._of_messages = of_messages
        self._waiting: list[tuple[int, Loss]] = []

    def note(self, loss: Loss, needed: int) -> None:
        """`needed`: the offset that a successor needs to notice it again."""
        self._waiting.append((needed, loss))

    def messages(self, start: int, end: int, now: float) -> None:
        """Messages from `start` to `end` were removed from Kafka before they were acknowledged, or passed over."""
        time_ns, kind = int(now * 1e9), self._of_messages
        loss = Loss(time_ns=time_ns, kind=kind, node="", ring_id=0, start=start, end=end, lost=end - start)
        self.note(loss, start)

    def waiting(self) -> list[Loss]:
        """Those to be written down."""
        return [loss for _, loss in self._waiting]

    def written(self, losses: Sequence[Loss]) -> None:
        """These are."""
        self._waiting = [(offset, loss) for offset, loss in self._waiting if loss not in losses]

    @property
    def needed(self) -> list[int]:
        """Offsets that may not be acknowledged yet."""
        return [offset for offset, _ in self._waiting]
