"""`/api/health`: every stage, asked anew for each request."""

import asyncio
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import APIRouter, Request, Response

from console.health import TIMEOUT_SECONDS, Question, Verdict

EXAMPLES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {
            "application/json": {
                "example": {
                    "ok": status == 200,
                    "node": "gateway-1",
                    "stages": [
                        {"stage": "streams", "ok": status == 200, "message": message, "age_seconds": age, "details": {}}
                    ],
                }
            }
        },
    }
    for status, text, message, age in (
        (200, "All stages are well.", "", 0.4),
        (503, "A stage is not.", "streams at 127.0.0.1:9465 does not answer (connection refused)", None),
    )
}
"""For the OpenAPI description."""
_AGES = {"producer": "last_ack_age_seconds", "storing": "oldest_age_seconds", "streams": "last_insert_age_seconds"}
_GRACE_SECONDS = 0.5  # after the time-out of a question: a server that sends a byte now and then keeps it going


def router() -> APIRouter:
    """The route; `app.state.health` is a Health."""
    routes = APIRouter(prefix="/api", tags=["health"])

    @routes.head("/health", include_in_schema=False)  # for probes
    @routes.get("/health", responses=EXAMPLES)
    async def health(request: Request) -> Response:
        """Every stage of the pipeline: 200 when all are well, 503 otherwise."""
        state = await request.app.state.health.read()
        return Response(
            json.dumps(state),
            200 if state["ok"] else 503,
            media_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    return routes


class Health:
    """Asks in threads, a stage once at a time: whoever asks meanwhile gets the same answer. Close it."""

    def __init__(
        self,
        questions: Sequence[Question],
        *,
        node: str,
        own: Callable[[], tuple[str, Mapping[str, Any]]] = lambda: ("", {}),
        timeout_seconds: float = TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`questions`: of the others. `own`: what is wrong with the console itself, and details."""
        self._questions = questions
        self._node, self._own = node, own
        self._patience = timeout_seconds + _GRACE_SECONDS
        self._clock = clock
        self._started = clock()
        self._threads = ThreadPoolExecutor(len(questions), thread_name_prefix="health")
        self._asked: dict[str, asyncio.Future[Verdict]] = {}

    def close(self) -> None:
        """End; what is being asked is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def read(self) -> dict[str, Any]:
        """`{"ok": …, "node": …, "stages": […]}` in the order of the path of a packet."""
        verdicts = await self.verdicts()
        stages = [_stage(question, verdicts[question.stage]) for question in self._questions]
        uptime = {"uptime_seconds": round(self._clock() - self._started, 1)}
        problem, details = self._own()
        stages.append(
            {
                "stage": "console",
                "ok": not problem,
                "message": problem,
                "age_seconds": None,
                "details": {**uptime, **details},
            }
        )
        return {"ok": all(one["ok"] for one in stages), "node": self._node, "stages": stages}

    async def verdicts(self, stages: Collection[str] = ()) -> Mapping[str, Verdict]:
        """What came of asking these; of all, when none is named."""
        asked = [question for question in self._questions if question.stage in stages or not stages]
        answers = await asyncio.gather(*(self._ask(question) for question in asked))
        return {question.stage: answer for question, answer in zip(asked, answers, strict=True)}

    async def _ask(self, question: Question) -> Verdict:
        asked = self._asked.get(question.stage)
        if asked is None:
            asked = asyncio.get_running_loop().run_in_executor(self._threads, question.ask)
            self._asked[question.stage] = asked
            asked.add_done_callback(lambda _: self._asked.pop(question.stage, None))
        try:
            return await asyncio.wait_for(asyncio.shield(asked), self._patience)
        except TimeoutError:
            return question.silent("no answer in time")


def _stage(question: Question, verdict: Verdict) -> Mapping[str, Any]:
    """One entry of `stages`: `message` is a sentence, empty when ok; `age_seconds` is of its last event, or null."""
    message = verdict.sentence(question.place)
    return {
        "stage": question.stage,
        "ok": verdict.ok,
        "message": f"{message}; {verdict.advice}" if verdict.advice else message,
        "age_seconds": verdict.details.get(_AGES.get(question.stage, "")),
        "details": dict(verdict.details),
    }
