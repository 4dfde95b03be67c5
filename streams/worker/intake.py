"""What came of each partition and was not taken yet: a queue and a task a partition, so that none waits for another.

A partition whose queue is full is not fetched for a while; what was fetched already still comes.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from streams.worker.neighbours import Member, Message

_MOST_MESSAGES, _MOST_BYTES = 16, 16 << 20  # that wait, of a partition; from half of it on it is fetched again

Take = Callable[[Message], Awaitable[None]]
Guard = Callable[[Coroutine[Any, Any, None]], Coroutine[Any, Any, None]]


class _Queue:
    """The messages of one partition, in their order."""

    def __init__(self, partition: int, take: Take, member: Member) -> None:
        self._partition, self._take, self._member = partition, take, member
        self._waiting: deque[Message] = deque()
        self._more = asyncio.Event()
        self._paused = False
        self._bytes = 0
        self.task: asyncio.Task[None] | None = None

    def put(self, message: Message) -> None:
        self._waiting.append(message)
        self._bytes += len(message.value or b"")
        self._more.set()
        if len(self._waiting) >= _MOST_MESSAGES or self._bytes >= _MOST_BYTES:
            self._paused = True
            self._member.pause(self._partition)  # each time: Faust resumes it when a queue of its own has drained

    @property
    def waits(self) -> bool:
        """Whether there is a message."""
        return bool(self._waiting)

    async def run(self) -> None:
        """Take them one after the other, for ever."""
        while True:
            await self._more.wait()
            while self._waiting:
                await self._take(self._waiting[0])  # counts until it is taken
                self._bytes -= len(self._waiting.popleft().value or b"")
                if self._paused and len(self._waiting) <= _MOST_MESSAGES // 2 and self._bytes <= _MOST_BYTES // 2:
                    self._paused = False
                    self._member.resume(self._partition)
                await asyncio.sleep(0)  # decoding may be all that is done: others have their turn
            self._more.clear()


class Intake:
    """The queues of all partitions."""

    def __init__(self, take: Take, member: Member, guard: Guard) -> None:
        """`take`: called with one message after the other of a partition; `guard`: runs a task that must not end."""
        self._take, self._member, self._guard = take, member, guard
        self._queues: dict[int, _Queue] = {}

    def put(self, message: Message) -> None:
        """A message came."""
        queue = self._queues.get(message.partition)
        if queue is None:
            queue = self._queues[message.partition] = _Queue(message.partition, self._take, self._member)
            queue.task = asyncio.create_task(self._guard(queue.run()), name=f"intake {message.partition}")
        queue.put(message)

    def waits(self, partition: int) -> bool:
        """Whether something came of a partition that is not taken yet."""
        return partition in self._queues and self._queues[partition].waits

    async def drop_all(self) -> None:
        """Forget what waits: it was not acknowledged, and comes again to whoever has the partition next."""
        tasks = [queue.task for queue in self._queues.values() if queue.task]
        self._queues.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
