"""The processes of `ayaflow up`: how one is started, told to end, and what its log says of its death."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from common.errors import EnvironmentProblem
from common.settings import CONFIG_ENV, ENV_PREFIX
from deploy.local.process import dies_with_parent, make_directory, write_private
from deploy.local.up.account import Account
from deploy.local.up.logfile import LogFile
from deploy.local.up.stages import Plan

DETACH_SECONDS = 20.0


class Child:
    """A process in a session of its own: Ctrl-C reaches us alone, and we stop all in order."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def poll(self) -> int | None:
        """Its exit code, -N for signal N; None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and whatever it left in its session, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def settings_file(data_dir: Path) -> Path:
    """Where `ayaflow up` writes all of its settings."""
    return data_dir / "run/settings.yaml"


class Programs:
    """Starts the stages, each a command of `ayaflow` with our settings, its output in a log of its own.

    From one thread: a child's death signal is tied to the thread that started it.
    """

    def __init__(
        self, settings: Mapping[str, Any], data_dir: Path, plans: Iterable[Plan], account: Account | None = None
    ) -> None:
        """Writes the settings, all of them, by section, for the children. Raises EnvironmentProblem.

        `account`: whose the parts are that need no privilege; None: ours.
        """
        self._config, self._account = settings_file(data_dir), account
        _write_settings(self._config, settings, account)
        self._whose = () if _chosen(settings) else ("--set", f"producer.user={account.name if account else 'root'}")
        self._plans = {plan.name: plan for plan in plans}
        self._logs = {name: LogFile(data_dir / "logs" / f"{name}.log") for name in self._plans}

    def start(self, name: str) -> Child:
        """Run a stage. Raises EnvironmentProblem when its log cannot be written."""
        privileged = self._plans[name].privileged
        account = None if privileged else self._account
        with self._logs[name].open() as output:
            process = subprocess.Popen(
                [*self._command(name), *(self._whose if privileged else ())],
                env=account.environment(_environment()) if account else _environment(),
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGTERM),  # noqa: PLW1509  calls nothing that another thread may lock
            )
        return Child(process)

    def check_log(self, name: str) -> None:
        """Keep its log small."""
        self._logs[name].check()

    def last_words(self, name: str) -> str:
        """The last error in its log, a sentence; empty when there is none."""
        return self._logs[name].last_words()

    def detach(self) -> int | None:
        """Take out of the kernel what a killed producer left there -> exit code; None: it took too long."""
        try:
            return subprocess.run(
                self._command("detach"),
                env=_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=DETACH_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return None

    def _command(self, name: str) -> list[str]:
        # -P: nothing in the working directory can stand in for our modules
        return [sys.executable, "-P", "-m", "cli.main", name, "--config", str(self._config)]


def _chosen(settings: Mapping[str, Any]) -> bool:
    """Whether somebody has said who the producer is to be."""
    return bool(settings["producer"]["user"])


def _environment() -> dict[str, str]:
    """Ours without settings: they are in the file, resolved."""
    return {key: value for key, value in os.environ.items() if not key.startswith(ENV_PREFIX) and key != CONFIG_ENV}


def _write_settings(path: Path, settings: Mapping[str, Any], account: Account | None) -> None:
    try:
        make_directory(path.parent)
        # it may hold a password
        write_private(path, yaml.safe_dump(dict(settings), sort_keys=False), group=account.gid if account else None)
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {path}: {error.strerror}. Make room, or set data_dir") from error
