"""The engines: one table, in the order in which they are shown.

To add one, write docs/consumers/NAME.md (`tests/consumers/page.py` says what of it is cut out; its title names the
version, its programs end by themselves, and print `ayaflow.flows: N records, N packets, N bytes` and, where they can,
the same of `ayaflow.packets`), and add a line to ENGINES. What cannot be run by the page's own commands gets a module
here with a function for `run`. Its folder is tests/consumers/.work/NAME, which git ignores.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.consumers.page import Page, read
from tests.consumers.totals import Totals, said

WORK = Path(__file__).parent / ".work"
INSTALL_SECONDS, RUN_SECONDS = 3_000, 300


class Failed(Exception):
    """An engine did not do what its page says; a sentence, and what it printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One page, and what it needs."""

    name: str  # of the page and the folder
    tools: tuple[str, ...] = ()  # that must be on this machine
    python: bool = False  # its commands find a virtual environment of their own
    environment: Mapping[str, str] = field(default_factory=dict)
    run: "Callable[[Engine], dict[str, Totals]] | None" = None  # None: the commands of `## Run`

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

    def totals(self) -> dict[str, Totals]:
        """Run it beside the site -> totals by topic. Raises Failed."""
        what = self._write()
        return self.run(self) if self.run else said(self.shell(what.run, RUN_SECONDS))

    def shell(self, commands: tuple[str, ...], seconds: float) -> str:
        """Run commands as a person would, in its folder -> what they print. Raises Failed."""
        first = self.folder / "venv" / "bin"
        path = f"{first if first.exists() else Path(sys.executable).parent}:{os.environ['PATH']}"
        with subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
            cwd=self.folder,
            env={**os.environ, "PATH": path, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, told = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # and what it has started
                output, told = process.communicate()
                raise Failed(f"did not end within {seconds:g} s: {(output + told).strip()[-3000:]}") from None
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if process.returncode:
            raise Failed(f"ended with {process.returncode}: {(output + told).strip()[-3000:]}")
        return output

    def _write(self) -> Page:
        """The page's files, as they are now."""
        if missing := [tool for tool in self.tools if not shutil.which(tool)]:
            raise Failed(f"{', '.join(missing)} is not on this machine")
        what = self.page
        self.folder.mkdir(parents=True, exist_ok=True)
        what.write(self.folder)
        return what


ENGINES = {engine.name: engine for engine in (Engine(name="confluent-kafka", python=True),)}
