from pathlib import Path

import pytest

from common.settings import ClickHouseSettings
from deploy.local.clickhouse import access
from deploy.local.clickhouse.access import Role, objection


@pytest.mark.parametrize(
    ("user", "password", "role"),
    [
        ("ayaflow", "right", Role.WRITER),
        ("ayaflow", "wrong", None),
        ("ayaflow", "", None),
        ("default", "", Role.READER),
        ("default", "right", None),
        ("", "", None),
        ("ünï", "ünï", None),
    ],
)
def test_the_role_is_that_of_user_and_password(user: str, password: str, role: Role | None) -> None:
    assert access.role_of(ClickHouseSettings(username="ayaflow", password="right"), user, password) is role


def test_nobody_writes_without_a_password_and_a_default_with_one_is_the_only_user() -> None:
    assert access.role_of(ClickHouseSettings(username="ayaflow"), "ayaflow", "") is None
    only = ClickHouseSettings(password="right")
    assert access.role_of(only, "default", "right") is Role.WRITER
    assert access.role_of(only, "default", "") is None


def test_a_password_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "new"
    made = access.with_password(ClickHouseSettings(), directory)
    assert made.username == "ayaflow"
    assert access.with_password(ClickHouseSettings(), directory) == made
    kept = directory / access.PASSWORD_FILE
    assert kept.read_text().strip() == made.password
    assert kept.stat().st_mode & 0o777 == 0o600
    own = ClickHouseSettings(password="x")
    assert access.with_password(own, tmp_path) is own


@pytest.mark.parametrize(
    "tree",
    [
        "SetRoleQuery",
        "SelectWithUnionQuery (children 1)\n ExpressionList\n  Function file (children 1)",
        "CreateQuery a (children 2)\n Identifier a\n Storage definition (children 1)\n  Function Kafka",
        "CreateQuery a\n ViewTargets (children 1)\n  Storage definition (children 1)\n   Function Executable",
    ],
)
def test_what_no_grant_forbids_is_objected_to(tree: str) -> None:
    assert objection(tree)


@pytest.mark.parametrize(
    "tree",
    [
        "SelectWithUnionQuery (children 1)\n ExpressionList\n  Identifier file\n  Function files (children 1)",
        "CreateQuery a\n Storage definition (children 3)\n  Function ReplacingMergeTree (children 1)\n  Function tuple",
        "Set",
    ],
)
def test_what_only_looks_like_it_is_not(tree: str) -> None:
    assert not objection(tree)
