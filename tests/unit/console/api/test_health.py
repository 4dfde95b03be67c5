"""/api/health: answers of stages put together, without waiting for any of them for ever."""

import asyncio
import threading
from collections.abc import Callable

from console.api.health import Health
from console.health import Question, Verdict

WELL = Verdict(ok=True, details={"last_insert_age_seconds": 0.4})


def question(stage: str, look: Callable[[], Verdict]) -> Question:
    return Question(stage=stage, place=f"{stage} at x", setting=f"{stage}.listen", look=look)


def test_each_stage_is_told_in_its_order_and_the_console_last() -> None:
    away = Verdict(ok=False, message="does not answer (connection refused)", advice="start it")
    now = 10.0
    health = Health([question("kafka", lambda: away), question("streams", lambda: WELL)], node="n1", clock=lambda: now)
    now = 12.34
    state = asyncio.run(health.read())
    health.close()
    assert state == {
        "ok": False,
        "node": "n1",
        "stages": [
            {
                "stage": "kafka",
                "ok": False,
                "message": "kafka at x does not answer (connection refused); start it",
                "age_seconds": None,
                "details": {},
            },
            {
                "stage": "streams",
                "ok": True,
                "message": "",
                "age_seconds": 0.4,
                "details": {"last_insert_age_seconds": 0.4},
            },
            {"stage": "console", "ok": True, "message": "", "age_seconds": None, "details": {"uptime_seconds": 2.3}},
        ],
    }


def test_a_stage_that_hangs_is_asked_once_and_holds_nobody_up() -> None:
    go_on, times = threading.Event(), []

    def hangs() -> Verdict:
        times.append(1)
        go_on.wait(60)
        return WELL

    async def play() -> list[bool]:
        health = Health([question("streams", hangs), question("kafka", lambda: WELL)], node="n1", timeout_seconds=0)
        found = []
        for _ in range(2):
            for state in await asyncio.gather(health.read(), health.read()):
                assert state["stages"][0]["message"] == (
                    "streams at x does not answer (no answer in time); "
                    "start it with `ayaflow up` or `ayaflow streams`, or correct streams.listen"
                )
                assert state["stages"][1]["ok"]
                found.append(state["ok"])
        assert len(times) == 1
        go_on.set()
        while not (await health.read())["ok"]:
            pass
        health.close()
        return found

    assert asyncio.run(play()) == [False] * 4
