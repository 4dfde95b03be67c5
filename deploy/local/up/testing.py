"""What stands in for the processes of `ayaflow up` in tests."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class MemoryProcess:
    """A deploy.local.up.supervisor.Process. Ends when it is told to, with `answer`; never when that is None."""

    pid: int
    answer: int | None = 0
    code: int | None = None  # it ended
    asked: int = 0  # to end, so often
    killed: bool = False  # it, or what it may have left

    def poll(self) -> int | None:
        """Its exit code."""
        return self.code

    def terminate(self) -> None:
        """End, if it does."""
        self.asked += 1
        self.code = self.answer

    def kill(self) -> None:
        """End."""
        self.killed = True
        if self.code is None:
            self.code = -9


@dataclass(slots=True)
class MemoryLauncher:
    """A deploy.local.up.supervisor.Launcher; every process that it ever started is in `started`."""

    words: dict[str, str] = field(default_factory=dict)  # the last in each stage's log
    answers: dict[str, int | None] = field(default_factory=dict)  # how each stage ends when it is asked to
    detached: int | None = 0  # what `detach` returns
    started: list[tuple[str, MemoryProcess]] = field(default_factory=list)
    detaches: int = 0

    def start(self, name: str) -> MemoryProcess:
        """A process that runs."""
        process = MemoryProcess(pid=1000 + len(self.started), answer=self.answers.get(name, 0))
        self.started.append((name, process))
        return process

    def check_log(self, name: str) -> None:
        """There is none."""

    def last_words(self, name: str) -> str:
        """What the test says."""
        return self.words.get(name, "")

    def detach(self) -> int | None:
        """What the test says."""
        self.detaches += 1
        return self.detached

    def newest(self, name: str) -> MemoryProcess:
        """The last one of a stage."""
        return next(process for started, process in reversed(self.started) if started == name)
