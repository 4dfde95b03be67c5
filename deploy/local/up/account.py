"""Who the parts of `ayaflow up` are: the producer begins as root, no other does.

The data directory is root's, and the group of the unprivileged user may pass through it, nobody else. What that user
writes is in directories of its own below it: whatever becomes of such a part, it cannot put a link where root writes.
"""

import os
import pwd
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import logs
from common.errors import EnvironmentProblem, SettingsError
from common.settings import LocalSettings
from deploy.local.kafka.broker import JARS
from deploy.local.process import make_directory
from deploy.local.up.stages import Plan
from producer.roles.ownership import give

log = logs.get("up")

SYSTEM_USER = "ayaflow"
"""That deploy/local/setup.sh makes."""
_OWN = ("kafka", "clickhouse", "faust", "logs/kafka", "run/kafka", "run/clickhouse")
"""Directories that unprivileged parts write, below data_dir."""
_PASSED = ("", "run", "logs")
"""Those of root that lead there."""
_TRY_SECONDS = 60
_TRY = "import os, sys, cli.main; [os.listdir(each) for each in sys.argv[1:]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user without privileges."""

    name: str
    uid: int
    gid: int
    home: str

    def environment(self, of: Mapping[str, str]) -> dict[str, str]:
        """These variables, as this user's."""
        return {**of, "HOME": self.home, "USER": self.name, "LOGNAME": self.name}


def prepare(data_dir: Path, local: LocalSettings, plans: Sequence[Plan]) -> Account | None:
    """Make the directories below data_dir, for us and for the user of the parts that need no privilege.

    None: all run as we do, since we are not root, or since no user can; then it is said. Raises EnvironmentProblem and
    SettingsError; also when the user that the settings name cannot.
    """
    make_directory(data_dir)
    _allow(data_dir, None)
    if os.geteuid() != 0 or local.user == "root" or all(plan.privileged for plan in plans):
        return None
    account = _named(local.user) if local.user else _found()
    if account is None:
        why = f"there is no user {SYSTEM_USER}: sudo useradd --system {SYSTEM_USER}, or set local.user"
    elif why := _hindrance(account, data_dir, local.kafka_jars_dir or JARS):
        _give_back(data_dir)
        why = f"the user {account.name} {why}"
    if not why:
        return account
    if local.user:
        raise EnvironmentProblem(f"local.user: {why}")
    log.warning("all parts run as root", reason=why)
    return None


def _named(name: str) -> Account:
    try:
        return _account(pwd.getpwnam(name))
    except KeyError as error:
        raise SettingsError(f"local.user: there is no user {name!r} on this machine") from error


def _found() -> Account | None:
    """Who called sudo, whose checkout it may be; else the system user."""
    caller = os.environ.get("SUDO_UID", "")
    try:
        if caller.isdecimal() and int(caller):
            return _account(pwd.getpwuid(int(caller)))
        return _account(pwd.getpwnam(SYSTEM_USER))
    except KeyError:
        return None


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, home=entry.pw_dir)


def _hindrance(account: Account, data_dir: Path, jars: Path) -> str:
    """Give the directories to a user -> why it cannot run our programs or reach these; empty when it can."""
    try:
        for name in _PASSED:
            make_directory(data_dir / name)
            _allow(data_dir / name, account)
        for name in _OWN:
            make_directory(data_dir / name)
            give(data_dir / name, account.uid, account.gid)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot give {error.filename or data_dir} to the user {account.name}: {error.strerror}. Set data_dir to a "
            "file system that knows owners, or local.user to root"
        ) from error
    said = _tried(account, [data_dir / _OWN[0], *([jars] if jars.is_dir() else ())])
    if not said:
        return ""
    places = f"{Path(sys.prefix).parent} or {data_dir}"
    return f"cannot use {places} ({said}): put both where it may read, such as /opt and /var/lib"


def _tried(account: Account, folders: Sequence[Path]) -> str:
    """Run our programs as a user, and let them look into these -> what went wrong."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _TRY, *map(str, folders)],
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            env=account.environment(os.environ),
            capture_output=True,
            text=True,
            check=False,
            timeout=_TRY_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:  # the interpreter, too, may be where it cannot look
        return str(error)
    return (done.stderr.strip().splitlines() or ["no reason"])[-1] if done.returncode else ""


def _allow(path: Path, account: Account | None) -> None:
    """Only we may do anything in a directory; the group of `account` passes through it."""
    if account is not None:
        os.chown(path, 0, account.gid)
    path.chmod(0o710 if account is not None else 0o700)


def _give_back(data_dir: Path) -> None:
    """All is root's again."""
    for name in _OWN:
        give(data_dir / name, 0, 0)
    for name in _PASSED:
        _allow(data_dir / name, None)
