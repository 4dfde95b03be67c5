"""As whom a producer watches: nobody who may do anything, once the program is loaded and the helper runs."""

import contextlib
import os
import pwd
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common import logs
from common.errors import EnvironmentProblem, SettingsError
from producer.folders import make
from producer.roles import capabilities
from producer.roles.ownership import give

SYSTEM_USER = "ayaflow"
"""That deploy/local/setup.sh makes."""
_BECOMES = {"CAP_SETUID", "CAP_SETGID"}
_REFINED = (5, 19)  # from this kernel on, who has a map's descriptor needs no CAP_BPF to use it

log = logs.get("producer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user."""

    name: str
    uid: int
    gid: int


def chosen(name: str | None, *, data_dir: Path, folders: tuple[Path, ...]) -> Account | None:
    """Whom root is to become; None: whom it is. Makes the folders, and gives them to that user.

    `name`: producer.user. Raises SettingsError when there is no such user, EnvironmentProblem when it cannot reach what
    it needs: of the user that nobody has named that is a warning.
    """
    if os.geteuid() != 0 or name == "root":
        _make(folders)
        return None
    account, why = _found(name or SYSTEM_USER), f"there is no user {name or SYSTEM_USER}"
    if account is None and name:
        raise SettingsError(f"producer.user: there is no user {name!r} on this machine")
    _make(folders)
    if account is not None:
        why = _given(data_dir, folders, account)
    if account is not None and not why:
        return account
    if name:
        raise EnvironmentProblem(f"producer.user: {why}")
    log.warning("the producer stays root, without capabilities", reason=why)
    return None


def become(account: Account | None) -> None:
    """Give up everything, for good: in the only thread. Raises EnvironmentProblem."""
    needed = {"CAP_BPF"} if needs_bpf() else set[str]()
    try:
        if account is not None:
            capabilities.become(account.uid, account.gid, needed)
        elif os.geteuid() == 0:  # its files may be somebody else's
            capabilities.keep({"CAP_DAC_OVERRIDE", *needed})
        else:
            capabilities.keep(needed)
    except OSError as error:
        raise EnvironmentProblem(f"cannot give up what the producer may do: {error.strerror}") from error


def needs_bpf(release: str | None = None, disabled: Path = Path("/proc/sys/kernel/unprivileged_bpf_disabled")) -> bool:
    """Whether this kernel lets only who has CAP_BPF use a map whose descriptor he has. `release`: of uname."""
    numbers = (release or os.uname().release).split("-")[0].split(".")
    try:
        return tuple(map(int, numbers[:2])) < _REFINED and disabled.read_text("ascii").strip() != "0"
    except (ValueError, OSError):  # an unusual name, or a kernel that does not say
        return False


def _found(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def _make(wanted: tuple[Path, ...]) -> None:
    for folder in wanted:
        try:
            make(folder)
        except OSError as error:
            raise EnvironmentProblem(
                f"cannot make {folder}: {error.strerror}. Set data_dir to a folder that can be written"
            ) from error


def _given(data_dir: Path, folders: tuple[Path, ...], account: Account) -> str:
    """Give the folders to a user -> why it cannot be the producer's; empty: it can."""
    if lacking := _BECOMES - capabilities.held():
        return f"to become {account.name} it lacks {', '.join(sorted(lacking))}"
    _open_the_way(data_dir, folders, account)
    if why := _hindrance(folders, account):
        return why
    try:
        for folder in folders:
            give(folder, account.uid, account.gid)
    except OSError as error:
        return f"{error.filename or folders} cannot be given to {account.name}: {error.strerror}"
    return ""


def _open_the_way(data_dir: Path, folders: tuple[Path, ...], account: Account) -> None:
    """Let the user's group pass through our own folders, from data_dir down to his."""
    for above in {each for folder in folders for each in folder.parents if each.is_relative_to(data_dir)}:
        found = above.stat()
        if found.st_uid == 0 and not found.st_mode & 0o001:
            with contextlib.suppress(OSError):
                os.chown(above, -1, account.gid)
                above.chmod(stat.S_IMODE(found.st_mode) & 0o707 | 0o010)


def _hindrance(folders: tuple[Path, ...], account: Account) -> str:
    """What the user cannot reach of what it needs, a sentence; empty: nothing."""
    needed = {Path(__file__): os.R_OK, Path(sys.executable): os.X_OK} | {folder.parent: os.X_OK for folder in folders}
    with _as(account):
        missed = [path for path, mode in needed.items() if not os.access(path, mode, effective_ids=True)]
    if not missed:
        return ""
    return f"the user {account.name} cannot reach {missed[0]}: put it where it may, such as /opt and /var/lib"


@contextlib.contextmanager
def _as(account: Account) -> Iterator[None]:
    """Be another user for a moment, in our only thread."""
    groups = os.getgroups()
    with capabilities.dying_with_parent():
        os.setgroups([])
        os.setegid(account.gid)
        os.seteuid(account.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)
