"""The engines: one table, in the order in which they are shown.

To add one, write docs/consumers/NAME.md (`tests/consumers/page.py` says what of it is cut out; its title names the
version; its programs print `ayaflow.flows: N records, N packets, N bytes` and, where they can, the same of
`ayaflow.packets`, and end, or do so again and again: `endless`), a line in the page's index, and one in ENGINES. Where
the page's commands cannot be run as they are, `run` has others. Its folder is tests/consumers/.work/NAME, which git
ignores.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.consumers.page import Page, read
from tests.consumers.totals import FLOWS, Totals, contradicted, said, stands_still

REPOSITORY = Path(__file__).parents[2]
WORK = Path(__file__).parent / ".work"
INSTALL_SECONDS, RUN_SECONDS = 3_000, 300
PATIENCE_SECONDS = 60.0  # in which who has not said the truth says something else: a busy machine stops it for a while


class Failed(Exception):
    """An engine did not do what its page says; a sentence, and what it printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One page, and what it needs."""

    name: str  # of the page and the folder
    tools: tuple[str, ...] = ()  # that must be on this machine
    python: bool = False  # its commands find a virtual environment of their own
    environment: Mapping[str, str] = field(default_factory=dict)
    run: tuple[str, ...] | None = None  # None: the commands of `## Run`
    endless: int = 0  # they do not end by themselves: who says the truth so often in turn has read all
    seconds: float = RUN_SECONDS  # that it may take, on two cores that do something else, too

    @property
    def page(self) -> Page:
        """As it is now."""
        return read(self.name)

    @property
    def folder(self) -> Path:
        """Where its files are, and what was installed."""
        return WORK / self.name

    def prepare(self) -> None:
        """Write its files and do what `## Install` says, if the page has changed since. Asks registries."""
        what = self._write()
        stamp = hashlib.sha256("\0".join([*what.install, *what.files.values()]).encode()).hexdigest()
        done = self.folder / ".installed"
        if done.exists() and done.read_text() == stamp:
            return
        if self.python and not (self.folder / "venv").exists():
            subprocess.run([sys.executable, "-m", "venv", self.folder / "venv"], check=True)
        self.shell(what.install, INSTALL_SECONDS)
        done.write_text(stamp)

    def totals(self, truth: Mapping[str, Totals]) -> dict[str, Totals]:
        """Run it beside the site -> totals by topic. Raises Failed.

        `truth`: what an endless one is waited for; another answer is one when it stays.
        """
        what = self._write()
        commands = what.run if self.run is None else self.run
        output = self.shell(commands, self.seconds, truth=truth)
        if not self.endless and (topics := contradicted(output)):
            raise Failed(f"its programs do not say the same of {', '.join(topics)}: {output.strip()[-3000:]}")
        return said(output)

    def shell(self, commands: tuple[str, ...], seconds: float, *, truth: Mapping[str, Totals] | None = None) -> str:
        """Run commands as a person would, in its folder -> what they print. Raises Failed.

        `truth`: of an endless one, which says again and again what it has added up, and is ended when that stays.
        """
        endless = self.endless if truth is not None else 0
        first = self.folder / "venv" / "bin"
        path = f"{first if first.exists() else Path(sys.executable).parent}:{os.environ['PATH']}"
        file = self.folder / ".output"
        with file.open("w") as output:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
                cwd=self.folder,
                env={**os.environ, "PATH": path, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        begun = changed = time.monotonic()
        before: dict[str, Totals] = {}
        try:
            while process.poll() is None and (now := time.monotonic()) < begun + seconds:
                printed = file.read_text() if endless else ""
                if (totals := said(printed)) != before:
                    before, changed = totals, now
                right = (
                    truth is not None and FLOWS in totals and all(totals[name].equals(truth[name]) for name in totals)
                )
                if endless and stands_still(printed, endless) and (right or now - changed > PATIENCE_SECONDS):
                    return printed
                time.sleep(0.1)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what it has started
            process.wait()
        if process.returncode or endless:
            how = "did not end" if process.returncode == -signal.SIGKILL else f"ended with {process.returncode}"
            raise Failed(f"{how}: {file.read_text().strip()[-3000:]}")
        return file.read_text()

    def _write(self) -> Page:
        """The page's files, as they are now."""
        if missing := [tool for tool in self.tools if not shutil.which(tool)]:
            raise Failed(f"{', '.join(missing)} is not on this machine")
        what = self.page
        self.folder.mkdir(parents=True, exist_ok=True)
        what.write(self.folder)
        return what


_HEAPS = {"JAVA_TOOL_OPTIONS": "-Xmx1g"}
_FLINK = (f"{sys.executable} -m tests.consumers.flink",)
_CHDB = (f"{sys.executable} -m tests.consumers.chdb flows.sql packets.sql totals.sql",)

ENGINES = {
    engine.name: engine
    for engine in (
        Engine(name="python-library"),
        Engine(name="confluent-kafka", python=True),
        Engine(name="aiokafka", python=True),
        Engine(name="dataframes", python=True),
        Engine(name="faust", python=True, endless=4),
        Engine(name="clickhouse", run=_CHDB, endless=3, environment={"PYTHONPATH": str(REPOSITORY)}),
        Engine(name="go", tools=("go",)),
        Engine(name="node", tools=("node", "npm")),
        Engine(name="rust", tools=("cargo", "gcc", "make")),
        Engine(name="java", tools=("java", "mvn"), environment=_HEAPS),
        Engine(name="kafka-streams", tools=("java", "mvn"), environment=_HEAPS, endless=4),
        Engine(name="kafka-connect", tools=("java", "mvn"), environment=_HEAPS, endless=4),
        Engine(
            name="flink",
            tools=("java", "mvn"),
            run=_FLINK,
            environment={
                "PYTHONPATH": str(REPOSITORY),
                "JVM_ARGS": "-Xmx512m",  # of its SQL client
                "FLINK_PID_DIR": str(WORK / "flink"),  # another cluster of this machine is not ours to stop
            },
            seconds=1_500,
        ),
        Engine(name="spark", tools=("java", "mvn"), python=True, seconds=900),
    )
}
