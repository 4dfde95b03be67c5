"""Stages are asked again and again."""

import itertools
import threading

from console.health import Question, Verdict
from deploy.local.up.probes import Probes


def test_the_newest_answer_of_each_stage_is_there_until_the_end() -> None:
    thrice, counts = threading.Event(), {name: itertools.count(1) for name in ("kafka", "streams")}

    def look(name: str) -> Verdict:
        number = next(counts[name])
        if name == "streams" and number == 3:
            thrice.set()
        return Verdict(ok=number >= 2)

    probes = Probes(
        [
            Question(stage=name, place=name, setting=name, look=lambda name=name: look(name))  # type: ignore[misc]
            for name in counts
        ]
    )
    probes.interval = 0
    with probes:
        assert thrice.wait(60)
    probes.join(60)
    assert not probes.is_alive()
    assert probes.verdicts == {"kafka": Verdict(ok=True), "streams": Verdict(ok=True)}
