"""Whose the parts of `ayaflow up` are. As root."""

import os
import pwd
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import EnvironmentProblem, SettingsError
from common.settings import LocalSettings
from deploy.local.up import account
from deploy.local.up.account import SYSTEM_USER, Account, prepare
from deploy.local.up.stages import PLANS
from tests.fix_local import temporary_directory

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def no_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)


@pytest.fixture(autouse=True)
def programs_anybody_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever this checkout is."""
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    monkeypatch.setattr(account, "_TRY", account._TRY.replace(", cli.main", ""))
    monkeypatch.setattr(account, "JARS", Path("/nowhere"))


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Where others may pass through."""
    with temporary_directory() as directory:
        yield directory / "data"


def prepared(data_dir: Path, user: str | None = None) -> Account | None:
    return prepare(data_dir, LocalSettings(user=user), PLANS)


def test_it_is_the_system_user_and_who_called_sudo_goes_before(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = prepared(data_dir)
    assert found is not None
    assert (found.name, found.environment({"HOME": "/root"})["HOME"]) == (SYSTEM_USER, "/var/lib/ayaflow")
    monkeypatch.setenv("SUDO_UID", str(pwd.getpwnam("nobody").pw_uid))
    found = prepared(data_dir)
    assert found is not None
    assert found.name == "nobody"
    assert (data_dir / "kafka").stat().st_uid == found.uid  # the other's, a moment ago
    assert (data_dir.stat().st_uid, data_dir.stat().st_gid) == (0, found.gid)


def test_the_settings_name_another_or_root(data_dir: Path) -> None:
    found = prepared(data_dir, "nobody")
    assert found is not None
    assert found.name == "nobody"
    assert prepared(data_dir, "root") is None
    with pytest.raises(SettingsError, match=r"local\.user: there is no user 'who'"):
        prepared(data_dir, "who")


def test_what_another_owner_left_is_given_and_no_link_is_followed(data_dir: Path) -> None:
    outside = data_dir.parent / "outside"
    outside.mkdir()
    (outside / "file").touch()
    left = data_dir / "kafka/topic-0"
    left.mkdir(parents=True)
    (left / "log").touch()
    (left / "link").symlink_to(outside)
    (data_dir / "kafka/file").symlink_to(outside / "file")
    found = prepared(data_dir)
    assert found is not None
    assert {(left / name).lstat().st_uid for name in ("", "log", "link")} == {found.uid}
    assert (outside.stat().st_uid, (outside / "file").stat().st_uid) == (0, 0)
    (left / "root").touch()  # by `ayaflow kafka`, say
    (left / "hard").hardlink_to(outside / "file")
    prepared(data_dir)
    assert ((left / "root").stat().st_uid, (outside / "file").stat().st_uid) == (found.uid, 0)


def test_a_user_who_cannot_reach_it_is_told_and_nothing_is_left_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o700)
    assert prepared(tmp_path / "data") is None
    reason = caplog.records[0].fields["reason"]  # type: ignore[attr-defined]
    assert f"{SYSTEM_USER} cannot use" in reason
    assert "Permission denied" in reason
    assert {each.stat().st_uid for each in (tmp_path / "data").rglob("*")} == {0}
    with pytest.raises(EnvironmentProblem, match=f"local.user: the user {SYSTEM_USER} cannot use"):
        prepared(tmp_path / "data", SYSTEM_USER)


def test_programs_that_it_cannot_read_are_told(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As of a checkout below /root."""
    tmp_path.chmod(0o700)
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert prepared(data_dir) is None
    assert data_dir.stat().st_mode & 0o7777 == 0o700
    assert "Permission denied" in caplog.records[0].fields["reason"]  # type: ignore[attr-defined]


def test_without_a_user_all_run_as_root_and_it_is_told(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(account, "SYSTEM_USER", "nobody-has-this-name")
    assert prepared(data_dir) is None
    assert "useradd" in caplog.records[0].fields["reason"]  # type: ignore[attr-defined]
    assert data_dir.stat().st_mode & 0o7777 == 0o700


def test_who_is_not_root_stays_who_it_is(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert prepared(data_dir) is None
    assert data_dir.stat().st_mode & 0o7777 == 0o700
