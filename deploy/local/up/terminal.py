"""The live view of `ayaflow up` on a terminal: what the supervisor and the live topic know, drawn twice a second."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live

from common import logs
from common.settings import LogSettings
from console.live.reader import LiveReader
from deploy.local.process import make_directory, rss_mb
from deploy.local.up.screen import Screen
from deploy.local.up.stages import Stage, State
from deploy.local.up.supervisor import Supervisor
from deploy.local.up.view import StageLine, View, render

REFRESH_SECONDS = 0.5


class Terminal(Screen):
    """The live view. Our own log goes to a file meanwhile."""

    def __init__(
        self,
        supervisor: Supervisor,
        reader: LiveReader,
        *,
        node: str,
        url: str,
        data_dir: Path,
        log: LogSettings,
        console: Console | None = None,
    ) -> None:
        """`reader` is started and stopped here. `url`: of the console."""
        self._supervisor, self._reader = supervisor, reader
        self._node, self._url, self._data_dir, self._logs = node, url, data_dir, log
        self._console = console or Console()
        self._live = Live(console=self._console, auto_refresh=False, transient=False, vertical_overflow="crop")
        self._began = time.monotonic()
        self._drawn = 0.0
        self._note = ""
        self._log: TextIO | None = None

    def __enter__(self) -> None:
        # two writers on one terminal make neither readable
        directory = self._data_dir / "logs"
        make_directory(directory)
        self._log = (directory / "up.log").open("a", encoding="utf-8")
        logs.configure(level=self._logs.level, form=self._logs.format, stream=self._log)
        self._reader.start()
        self._live.start()

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__()
        self._live.stop()
        logs.configure(level=self._logs.level, form=self._logs.format)
        if self._log:
            self._log.close()

    def draw(self) -> None:
        """At most twice a second."""
        if time.monotonic() - self._drawn >= REFRESH_SECONDS:
            self._draw()

    def ready(self, url: str) -> None:
        """The view says it already."""
        self._draw()

    def say(self, note: str) -> None:
        """Draw at once."""
        self._note = note
        self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        size = self._console.size
        self._live.update(render(self.view(), width=size.width, height=size.height), refresh=True)

    def view(self) -> View:
        """All that is to be shown now."""
        now = time.monotonic()
        return View(
            node=self._node,
            url=self._url,
            data_dir=str(self._data_dir),
            uptime_seconds=now - self._began,
            now=datetime.now(UTC),
            stages=tuple(self._line(stage, now) for stage in self._supervisor.stages.values()),
            live=self._reader.stats,
            problem=self._reader.problem,
            note=self._note,
        )

    def _line(self, stage: Stage, now: float) -> StageLine:
        pid = self._supervisor.pid(stage.plan.name)
        message = stage.message
        if stage.state is State.WAITING and stage.start_at > now:
            message = f"starts again in {stage.start_at - now:.0f} s: {message}"
        return StageLine(
            name=stage.plan.name,
            state=stage.state.value,
            age_seconds=max(0.0, now - stage.since),
            restarts=stage.restarts,
            rss_mb=rss_mb(pid) if pid else None,
            message=message,
        )
