"""Decides what of `ayaflow up` starts, starts again and stops, and when."""

import time
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from typing import Protocol

from common import logs
from common.errors import AyaflowError, EnvironmentProblem, ServiceUnavailable, SettingsError
from console.health import Verdict
from deploy.local.up import stages
from deploy.local.up.stages import Plan, Stage, State

log = logs.get("up")

HURRY_SECONDS = 2.0
_LOOK_SECONDS = 0.05  # between two looks at one that is to end
_ERRORS: Mapping[int, type[AyaflowError]] = {2: SettingsError, 3: EnvironmentProblem}


class Process(Protocol):
    """One that was started."""

    pid: int

    def poll(self) -> int | None:
        """Its exit code, -N for signal N; None while it runs."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it and whatever it left in its session, at once."""


class Launcher(Protocol):
    """Starts processes."""

    def start(self, name: str) -> Process:
        """Run a stage."""

    def check_log(self, name: str) -> None:
        """Keep its log small."""

    def last_words(self, name: str) -> str:
        """The last error in its log, a sentence; empty when there is none."""

    def detach(self) -> int | None:
        """Take out of the kernel what a killed producer left there -> exit code; None: it took too long."""


class Supervisor:
    """The processes. Call `step` a few times a second, and `stop` at the end, in one thread."""

    def __init__(
        self,
        plans: Sequence[Plan],
        launcher: Launcher,
        verdicts: MutableMapping[str, Verdict],
        *,
        elsewhere: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`plans`: of what is ours to run. `verdicts`: each stage's newest, by name; others write it.

        `elsewhere`: names of stages that somebody else runs.
        """
        self._launcher = launcher
        self._verdicts = verdicts
        self._elsewhere = elsewhere
        self._clock, self._sleep = clock, sleep
        self.stages = {plan.name: Stage(plan, since=clock()) for plan in plans}
        self._processes: dict[str, Process] = {}

    def pid(self, name: str) -> int | None:
        """Process id of a stage that runs."""
        process = self._processes.get(name)
        return process.pid if process and process.poll() is None else None

    @property
    def all_ready(self) -> bool:
        """Whether every stage is healthy now."""
        return all(stage.state is State.READY for stage in self.stages.values())

    def step(self) -> None:
        """Start what may start, note what died or became ready. Raises AyaflowError for a death that is fatal."""
        now = self._clock()
        for name, stage in self.stages.items():
            process = self._processes.get(name)
            if process is None:
                continue
            if (code := process.poll()) is not None:
                del self._processes[name]
                self._launcher.check_log(name)
                self._bury(stage, code, now)
            else:
                self._listen(stage, process.pid, now)
        ready = {name for name, stage in self.stages.items() if stage.was_ready}
        ready |= {name for name in self._elsewhere if name in self._verdicts and self._verdicts[name].ok}
        for name, stage in self.stages.items():
            self._launcher.check_log(name)
            if name not in self._processes and stage.may_start(ready, now):
                self._verdicts.pop(name, None)  # what an earlier process said
                process = self._processes[name] = self._launcher.start(name)
                log.info("started", stage=name, pid=process.pid)
                stage.started(now)

    def _listen(self, stage: Stage, pid: int, now: float) -> None:
        verdict, began = self._verdicts.get(stage.plan.name), stage.since
        if verdict is not None and stage.heard(ok=verdict.ok, message=verdict.message, now=now):
            log.info("ready", stage=stage.plan.name, seconds=round(now - began, 1), pid=pid)

    def _bury(self, stage: Stage, code: int, now: float) -> None:
        words = self._launcher.last_words(stage.plan.name)
        if stage.died(code, words, now):
            kind = _ERRORS.get(code, ServiceUnavailable)
            raise kind(f"{stage.plan.name} cannot start: {words or f'it ended with code {code}'}")
        log.warning("died", stage=stage.plan.name, code=code, said=words, again_in_seconds=stages.pause(stage.deaths))

    def stop(self, hurry: Callable[[], bool], draw: Callable[[], None] = lambda: None) -> bool:
        """Stop all, each in its time, then kill. Returns whether all stopped by themselves.

        `hurry`: whether somebody does not want to wait. `draw` shows progress.
        """
        clean = True
        for name in stages.STOP_ORDER:
            stage, process = self.stages.get(name), self._processes.get(name)
            if stage is None:
                continue
            if process is not None and not self._stop_one(stage, process, hurry, draw):
                clean = False
            stage.stopped(self._clock())
        return clean

    def _stop_one(self, stage: Stage, process: Process, hurry: Callable[[], bool], draw: Callable[[], None]) -> bool:
        name = stage.plan.name
        began = self._clock()
        stage.stopping(began)
        if process.poll() is None:
            process.terminate()
        while (code := process.poll()) is None:
            if self._clock() - began > (HURRY_SECONDS if hurry() else stage.plan.stop_seconds):
                log.warning("killed", stage=name, reason=f"did not stop in {self._clock() - began:.0f} s")
                process.kill()
                if name == "producer":
                    self._detach()
                return False
            draw()
            self._sleep(_LOOK_SECONDS)
        log.info("stopped", stage=name, code=code, seconds=round(self._clock() - began, 1))
        process.kill()  # what it may have left in its session
        return code == 0

    def _detach(self) -> None:
        """A producer that was killed left its program in the kernel."""
        code = self._launcher.detach()
        if code is None:
            log.warning("not detached", advice="run: ayaflow detach")
        else:
            log.info("detached", code=code)
