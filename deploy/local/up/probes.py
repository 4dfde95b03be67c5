"""Is each stage ready? Asked again and again, in a thread of its own, so that nothing waits for an answer."""

import threading
from collections.abc import Sequence
from typing import Self

from console.health import TIMEOUT_SECONDS, Question, Verdict


class Probes(threading.Thread):
    """`verdicts` has the newest answers. Use it with `with`."""

    def __init__(self, questions: Sequence[Question]) -> None:
        super().__init__(name="probes", daemon=True)
        self._questions = questions
        self._done = threading.Event()
        self.verdicts: dict[str, Verdict] = {}
        self.interval = 0.25  # s; `ayaflow up` slows it down when all is ready

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join(2 * TIMEOUT_SECONDS)

    def run(self) -> None:
        """Until the end of `with`."""
        while not self._done.is_set():
            for question in self._questions:
                self.verdicts[question.stage] = question.ask()
                if self._done.is_set():
                    return
            self._done.wait(self.interval)
