"""`ayaflow up`: everything on this machine, each part a process of its own; the view of it all on a terminal.

Without a terminal it prints one line, `ready http://…`, once every part is healthy, and nothing else.
"""

import sys
import time
from pathlib import Path

from common import logs
from common.settings import Settings
from common.stopping import Stop, stop_on_signals
from console.health import console_url, questions
from deploy.local import endpoints
from deploy.local.clickhouse import access
from deploy.local.process import is_held, only_one
from deploy.local.up import account, preflight
from deploy.local.up.probes import Probes
from deploy.local.up.processes import Programs, settings_file
from deploy.local.up.quiet import Quiet
from deploy.local.up.screen import Screen
from deploy.local.up.stages import PLANS
from deploy.local.up.supervisor import Supervisor

log = logs.get("up")

STEP_SECONDS = 0.1
CALM_PROBE_SECONDS = 2.0


def run(settings: Settings) -> int:
    """Run until SIGINT or SIGTERM. Returns 0 when all stopped cleanly, else 1.

    Raises EnvironmentProblem or SettingsError, with a sentence for each thing that is wrong, before anything starts;
    and when a part cannot start for such a reason.
    """
    with stop_on_signals() as stop, only_one(settings.data_dir, "up", "ayaflow up"):
        preflight.check(settings)
        if endpoints.clickhouse(settings.clickhouse).is_loopback:
            clickhouse = access.with_password(settings.clickhouse, settings.data_dir)
            settings = settings.model_copy(update={"clickhouse": clickhouse})
        with Probes(questions(settings)) as probes:
            supervisor = _supervisor(settings, probes)
            screen = _screen(settings, supervisor)
            with screen:
                try:
                    _watch(settings, supervisor, probes, stop, screen)
                finally:
                    screen.say("stopping; Ctrl-C again to hurry")
                    clean = supervisor.stop(lambda: stop.hurry, screen.draw)
                    screen.say("stopped" if clean else "stopped, but not every part by itself: see the logs")
    return 0 if clean else 1


def running(data_dir: Path) -> Path | None:
    """The settings of the `ayaflow up` that runs on this directory; None: none does."""
    return settings_file(data_dir) if is_held(data_dir, "up") else None


def _supervisor(settings: Settings, probes: Probes) -> Supervisor:
    """Of all but the servers that are on other machines."""
    servers = {"kafka": endpoints.kafka(settings.kafka), "clickhouse": endpoints.clickhouse(settings.clickhouse)}
    elsewhere = {name for name, address in servers.items() if not address.is_loopback}
    plans = [plan for plan in PLANS if plan.name not in elsewhere]
    user = account.prepare(settings.data_dir, settings.local, plans)
    programs = Programs(settings.model_dump(mode="json"), settings.data_dir, plans, user)
    return Supervisor(plans, programs, probes.verdicts, elsewhere=elsewhere)


def _watch(settings: Settings, supervisor: Supervisor, probes: Probes, stop: Stop, screen: Screen) -> None:
    began = time.monotonic()
    said = warned = False
    quiet = Quiet()
    while not stop.is_set():
        supervisor.step()
        if supervisor.all_ready and not said:
            said = True
            probes.interval = CALM_PROBE_SECONDS
            log.info("all ready", seconds=round(time.monotonic() - began, 1))
            screen.ready(console_url(settings.console))
        producer = probes.verdicts.get("producer") if supervisor.all_ready else None
        note = quiet.look(producer.details.get("packets") if producer else None, time.monotonic())
        if note is not None:
            screen.say(note)
        if note and not warned:
            warned = True
            log.warning("quiet", said=note)
        screen.draw()
        stop.wait(STEP_SECONDS)


def _screen(settings: Settings, supervisor: Supervisor) -> Screen:
    if not sys.stdout.isatty():
        return Screen()
    from console.live.reader import LiveReader  # these load what draws and decodes
    from deploy.local.up.terminal import Terminal

    return Terminal(
        supervisor,
        LiveReader.of(settings.kafka, settings.schema_registry.url),
        node=settings.node,
        url=console_url(settings.console),
        data_dir=settings.data_dir,
        log=settings.log,
    )
