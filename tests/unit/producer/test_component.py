"""A run from its beginning to its end: in which order it does things, also when one of them fails."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import pytest

from common.errors import EnvironmentProblem
from producer.capture.capture import Capture
from producer.capture.epochs import Epochs
from producer.component import FINISH_SECONDS, Run
from producer.kafka.progress import Progress
from producer.kernel.run_state import RunState
from tests.unit.producer.node import CODEC, MS, Node

BEGINNING = ["begin", "live", "make hooks", "attach", "capture 9"]
LAST = ["live no more", "close maps"]
ENDING = ["close hooks", "detach", "unpin all", "stop serving", *LAST]


class Kernel:
    """A pinned run."""

    def __init__(self, node: Node, name: str) -> None:
        self.node, self.name = node, name

    @property
    def state(self) -> RunState:
        return self.node.state


class Parts:
    """Obeys component.Parts; `order` is what was done. `fails`: the step that raises, and what."""

    flush_seconds = 0.25

    def __init__(
        self,
        *,
        adopted: bool = False,
        old: Sequence[Node] = (),
        looks: int = 5,
        fails: dict[str, Exception] | None = None,
    ) -> None:
        self.node, self.order, self.fails, self._looks = Node(), list[str](), fails or {}, looks
        self.kernel, self.adopted = Kernel(self.node, "9"), adopted
        self.old = tuple(Kernel(each, f"old {number}") for number, each in enumerate(old))
        self.publisher = self
        self.attached = False

    def run(self) -> int:
        return Run(self, stop=self, monotonic=lambda: self.node.now).run()

    def _do(self, step: str) -> None:
        self.order.append(step)
        if step in self.fails:
            raise self.fails[step]

    # the parts

    def begin(self) -> "Begun":
        self._do("begin")
        return Begun(self)

    @contextlib.contextmanager
    def alive(self, runs: Sequence[Kernel]) -> Iterator[None]:
        assert runs == (self.kernel, *self.old)
        self._do("live")
        try:
            yield
        finally:
            self._do("live no more")

    def epochs(self, kernel: Kernel, *, adopted: bool) -> Epochs:
        assert adopted == (self.adopted if kernel is self.kernel else True)
        return kernel.node.epochs()

    def capture(self, kernel: Kernel, epochs: Epochs, *, adopted: bool) -> Capture:
        self._do(f"capture {kernel.name}")
        assert adopted == (self.adopted if kernel is self.kernel else True)
        return kernel.node.read(self.node.publisher, epochs)

    def hooks(self, kernel: Kernel, epochs: Epochs, *, adopted: bool) -> "Hooks":
        assert (kernel, adopted) == (self.kernel, self.adopted)
        self._do("make hooks")
        return Hooks(self)

    @contextlib.contextmanager
    def served(self, capture: Capture) -> Iterator[None]:
        self._do("serve")
        try:
            yield
        finally:
            self._do("stop serving")

    def detach(self) -> None:
        self._do("detach")

    def unpin(self, kernel: Kernel) -> None:
        self._do(f"unpin {kernel.name}")

    def unpin_all(self) -> None:
        self._do("unpin all")

    # the publisher: each poll takes time

    @property
    def progress(self) -> Progress:
        return self.node.publisher.progress

    def begin_at(self, position: int, partition: int, names: tuple[int, int]) -> None:
        self.node.publisher.begin_at(position, partition, names)

    def poll(self, seconds: float) -> Progress:
        for node in (self.node, *(kernel.node for kernel in self.old)):
            node.now += int(seconds * 1e9)
        return self.node.publisher.poll(seconds)

    # what stops it: so many looks at the ring

    def is_set(self) -> bool:
        return self._looks <= 0

    def wait(self, seconds: float, descriptors: Iterable[int] = ()) -> None:
        self._looks -= 1
        self.node.now += 10 * MS


class Begun:
    def __init__(self, parts: Parts) -> None:
        self.kernel, self.adopted, self.old = parts.kernel, parts.adopted, parts.old
        self._parts = parts

    def close(self) -> None:
        self._parts.order.append("close maps")


class Hooks:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def begin(self) -> None:
        self._parts._do("attach")

    def step(self) -> None:
        if "look" in self._parts.fails:
            self._parts._do("look")

    def patience(self) -> float:
        return 1.0

    def descriptors(self) -> tuple[int, ...]:
        return ()

    def close(self) -> None:
        self._parts.order.append("close hooks")


def sent(node: Node) -> int:
    return sum(len(CODEC.decode_packet_batch(value)) for value in node.broker.stored)


@pytest.mark.parametrize("adopted", [False, True])
def test_all_is_sent_and_removed_before_what_was_opened_is_closed_the_last_first(adopted: bool) -> None:
    parts = Parts(adopted=adopted)
    for _ in range(3):
        parts.node.packet()
    assert parts.run() == 0
    assert parts.order == [*BEGINNING, "serve", *ENDING]
    assert sent(parts.node) == 3
    assert parts.node.ring.released == parts.node.ring.producer_position()


@pytest.mark.parametrize(
    ("step", "order"),
    [
        ("begin", ["begin"]),
        ("make hooks", [*BEGINNING[:3], *LAST]),
        ("capture 9", [*BEGINNING, "close hooks", *LAST]),
        ("serve", [*BEGINNING, "serve", "close hooks", *LAST]),
        ("look", [*BEGINNING, "serve", "look", "close hooks", "stop serving", *LAST]),
        ("unpin all", [*BEGINNING, "serve", *ENDING]),
    ],
)
@pytest.mark.parametrize(
    "error", [EnvironmentProblem("no"), OSError(28, "No space left on device"), RuntimeError("no")]
)
def test_whatever_fails_it_is_raised_as_it_is_what_was_opened_is_closed_and_what_is_pinned_stays(
    step: str, order: list[str], error: Exception
) -> None:
    parts = Parts(fails={step: error})
    with pytest.raises(type(error)) as raised:
        parts.run()
    assert raised.value is error
    assert parts.order == order


@pytest.mark.parametrize("error", [EnvironmentProblem("no"), OSError(1, "Operation not permitted")])
def test_a_first_run_that_cannot_attach_leaves_nothing(error: Exception) -> None:
    parts = Parts(fails={"attach": error})
    with pytest.raises(EnvironmentProblem):
        parts.run()
    assert parts.order == [*BEGINNING[:-1], "detach", "unpin 9", "close hooks", *LAST]


def test_one_that_goes_on_from_another_leaves_what_that_had_attached() -> None:
    parts = Parts(adopted=True, fails={"attach": EnvironmentProblem("no")})
    with pytest.raises(EnvironmentProblem):
        parts.run()
    assert parts.order == [*BEGINNING[:-1], "close hooks", *LAST]


def test_with_kafka_away_at_the_end_what_is_left_stays_in_the_kernel(caplog: pytest.LogCaptureFixture) -> None:
    parts = Parts()
    parts.node.broker.answers_itself = False
    parts.node.packet()
    began = parts.node.now
    assert parts.run() == 1
    assert parts.order == [*BEGINNING, "serve", "close hooks", "detach", "stop serving", *LAST]
    assert parts.node.now - began >= FINISH_SECONDS * 1e9
    assert "waits in the kernel for the next start" in caplog.text


def test_what_other_versions_have_left_is_sent_oldest_first_and_removed() -> None:
    old = [Node(), Node()]
    for node in old:
        node.packet()
    parts = Parts(old=old)
    parts.node.packet()
    assert parts.run() == 0
    drained = ["capture old 0", "unpin old 0", "capture old 1", "unpin old 1"]
    assert parts.order == [*BEGINNING, "serve", *drained, *ENDING]
    assert sent(parts.node) == 3
    assert parts.node.ring.released == 80


def test_told_to_stop_before_that_is_sent_it_detaches_and_keeps_all() -> None:
    old = Node()
    old.packet()
    parts = Parts(old=[old], looks=0)
    assert parts.run() == 1
    assert parts.order == [*BEGINNING, "serve", "capture old 0", "close hooks", "detach", "stop serving", *LAST]
    assert old.ring.released == 0


def test_what_waits_on_disk_is_no_reason_to_keep_it_in_the_kernel(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts()
    parts.node.packet()

    def on_disk(seconds: float) -> Progress:
        """All that was sent is on disk, and Kafka has nothing of it."""
        parts.node.now += int(seconds * 1e9)
        progress = parts.node.publisher.poll(seconds)
        return progress._replace(unacknowledged=1)

    monkeypatch.setattr(parts, "poll", on_disk)
    assert parts.run() == 0
    assert parts.order[-3:] == ENDING[-3:]
    assert "waits on disk for the next start" in caplog.text
