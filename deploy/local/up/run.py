"""`ayaflow up`: everything on this machine, each part a process of its own; the view of it all on a terminal.

Without a terminal it prints one line, `ready http://…`, once every part is healthy, and nothing else.
"""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType

from common import logs
from common.settings import Settings
from deploy.local.process import only_one
from deploy.local.up import preflight
from deploy.local.up.probes import Probes, console_url
from deploy.local.up.screen import Screen
from deploy.local.up.supervisor import Supervisor

log = logs.get("up")

STEP_SECONDS = 0.1
CALM_PROBE_SECONDS = 2.0


class _Signals:
    """Counts SIGINT and SIGTERM: the first stops all, the second hurries."""

    def __init__(self) -> None:
        self.count = 0
        self.on_second: list[Supervisor] = []

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            for supervisor in self.on_second:
                supervisor.hurry = True


def run(settings: Settings) -> int:
    """Run until SIGINT or SIGTERM. Returns 0 when all stopped cleanly, else 1.

    Raises EnvironmentProblem or SettingsError, with a sentence for each thing that is wrong, before anything starts;
    and when a part cannot start for such a reason.
    """
    signals = _Signals()
    with _handled(signals), only_one(settings.data_dir / "up.lock", "ayaflow up"):
        preflight.check(settings)
        with Probes(settings) as probes:
            supervisor = Supervisor(settings, probes)
            signals.on_second.append(supervisor)
            screen = _screen(settings, supervisor)
            with screen:
                try:
                    _watch(settings, supervisor, probes, signals, screen)
                finally:
                    screen.say("stopping; Ctrl-C again to hurry")
                    clean = supervisor.stop(screen.draw)
                    screen.say("stopped" if clean else "stopped, but not every part by itself: see the logs")
    return 0 if clean else 1


def _watch(settings: Settings, supervisor: Supervisor, probes: Probes, signals: _Signals, screen: Screen) -> None:
    began = time.monotonic()
    said = False
    while not signals.count:
        supervisor.step()
        if supervisor.all_ready and not said:
            said = True
            probes.interval = CALM_PROBE_SECONDS
            log.info("all ready", seconds=round(time.monotonic() - began, 1))
            screen.ready(console_url(settings.console))
        screen.draw()
        time.sleep(STEP_SECONDS)


def _screen(settings: Settings, supervisor: Supervisor) -> Screen:
    if not sys.stdout.isatty():
        return Screen()
    from deploy.local.up.terminal import Terminal  # loads what draws and decodes

    return Terminal(settings, supervisor)


@contextlib.contextmanager
def _handled(signals: _Signals) -> Iterator[None]:
    before = {number: signal.signal(number, signals.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
