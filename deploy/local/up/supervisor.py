"""Starts, watches and stops the processes of `ayaflow up`. All of it runs in one thread: a child's death signal is
tied to the thread that started it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from common import logs
from common.clickhouse import Endpoint
from common.errors import AyaflowError, EnvironmentProblem, ServiceUnavailable, SettingsError
from common.settings import CONFIG_ENV, ENV_PREFIX, Settings
from common.stopping import Stop
from deploy.local import endpoints
from deploy.local.process import dies_with_parent
from deploy.local.up import stages
from deploy.local.up.logfile import LogFile
from deploy.local.up.probes import Probes
from deploy.local.up.stages import Stage, State

log = logs.get("up")

HURRY_SECONDS = 2.0
DETACH_SECONDS = 20.0
_ERRORS: Mapping[int, type[AyaflowError]] = {2: SettingsError, 3: EnvironmentProblem}


class Supervisor:
    """The processes. Call `step` a few times a second, and `stop` at the end."""

    def __init__(self, settings: Settings, probes: Probes, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._probes = probes
        self._clock = clock
        self._config = _write_settings(settings)
        servers = {"kafka": endpoints.kafka(settings.kafka), "clickhouse": Endpoint.of(settings.clickhouse.url).address}
        self._elsewhere = {name for name, address in servers.items() if not address.is_loopback}
        ours = [plan for plan in stages.PLANS if plan.name not in self._elsewhere]
        self.stages = {plan.name: Stage(plan, since=clock()) for plan in ours}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._logs = {name: LogFile(settings.data_dir / "logs" / f"{name}.log") for name in self.stages}

    def pid(self, name: str) -> int | None:
        """Process id of a stage that runs."""
        process = self._processes.get(name)
        return process.pid if process and process.returncode is None else None

    @property
    def all_ready(self) -> bool:
        """Whether every stage is healthy now."""
        return all(stage.state is State.READY for stage in self.stages.values())

    def step(self) -> None:
        """Start what may start, note what died or became ready. Raises AyaflowError for a death that is fatal."""
        now = self._clock()
        for name, stage in self.stages.items():
            process = self._processes.get(name)
            if process is not None and process.poll() is not None:
                del self._processes[name]
                self._logs[name].check()
                self._bury(stage, process.returncode, now)
            elif process is not None:
                self._listen(stage, process.pid, now)
        ready = {name for name, stage in self.stages.items() if stage.was_ready}
        ready |= {name for name in self._elsewhere if self._probes.verdicts.get(name, (False, ""))[0]}
        for name, stage in self.stages.items():
            self._logs[name].check()
            if name not in self._processes and stage.may_start(ready, now):
                self._probes.verdicts.pop(name, None)  # what an earlier process said
                self._processes[name] = self._spawn(name)
                stage.started(now)

    def _listen(self, stage: Stage, pid: int, now: float) -> None:
        verdict, began = self._probes.verdicts.get(stage.plan.name), stage.since
        if verdict is not None and stage.heard(ok=verdict[0], message=verdict[1], now=now):
            log.info("ready", stage=stage.plan.name, seconds=round(now - began, 1), pid=pid)

    def _bury(self, stage: Stage, code: int, now: float) -> None:
        words = self._logs[stage.plan.name].last_words()
        if stage.died(code, words, now):
            kind = _ERRORS.get(code, ServiceUnavailable)
            raise kind(f"{stage.plan.name} cannot start: {words or f'it ended with code {code}'}")
        log.warning("died", stage=stage.plan.name, code=code, said=words, again_in_seconds=stages.pause(stage.deaths))

    def stop(self, asked: Stop, draw: Callable[[], None] = lambda: None) -> bool:
        """Stop all, each in its time, then kill; sooner when `asked` to hurry. `draw` shows progress.

        Returns whether all stopped by themselves.
        """
        clean = True
        for name in stages.STOP_ORDER:
            stage, process = self.stages.get(name), self._processes.get(name)
            if stage is None:
                continue
            if process is not None and not self._stop_one(stage, process, asked, draw):
                clean = False
            stage.stopped(self._clock())
        return clean

    def _stop_one(self, stage: Stage, process: subprocess.Popen[bytes], asked: Stop, draw: Callable[[], None]) -> bool:
        name = stage.plan.name
        began = self._clock()
        stage.stopping(began)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        while process.poll() is None:
            if self._clock() - began > (HURRY_SECONDS if asked.hurry else stage.plan.stop_seconds):
                log.warning("killed", stage=name, reason=f"did not stop in {self._clock() - began:.0f} s")
                _kill_group(process)
                process.wait()
                if name == "producer":
                    self._detach()
                return False
            draw()
            time.sleep(0.05)
        log.info("stopped", stage=name, code=process.returncode, seconds=round(self._clock() - began, 1))
        _kill_group(process)  # what it may have left in its session
        return process.returncode == 0

    def _detach(self) -> None:
        """A producer that was killed left its program in the kernel."""
        try:
            done = subprocess.run(
                self._command("detach"),
                env=_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=DETACH_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            log.warning("not detached", advice="run: ayaflow detach")
            return
        log.info("detached", code=done.returncode)

    def _command(self, name: str) -> list[str]:
        # -P: nothing in the working directory can stand in for our modules
        return [sys.executable, "-P", "-m", "cli.main", name, "--config", str(self._config)]

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        with self._logs[name].open() as output:
            process = subprocess.Popen(
                self._command(name),
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches us alone; we stop them in order
                preexec_fn=dies_with_parent(signal.SIGTERM),  # noqa: PLW1509  calls nothing that another thread may lock
            )
        log.info("started", stage=name, pid=process.pid)
        return process


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _environment() -> dict[str, str]:
    """Ours without settings: they are in the file, resolved."""
    return {key: value for key, value in os.environ.items() if not key.startswith(ENV_PREFIX) and key != CONFIG_ENV}


def _write_settings(settings: Settings) -> Path:
    path = settings.data_dir / "run/settings.yaml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)  # it may hold a password
        path.write_text(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), "utf-8")
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {path}: {error.strerror}. Make room, or set data_dir") from error
    return path
