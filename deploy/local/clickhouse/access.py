"""Who may do what in the embedded ClickHouse: roles that the engine itself enforces, written as its configuration.

chDB has one user. A connection takes the role of who asks when it is made (`SET ROLE`), and a request cannot take
another. All that is not granted is refused by the engine, code 497: files, other servers, SYSTEM, functions and
engines of tomorrow. HTTP users: `default` without a password reads, clickhouse.username with its password writes.
"""

import enum
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from common.errors import EnvironmentProblem
from common.settings import ClickHouseSettings
from deploy.local.process import write_private

WRITER_NAME = "ayaflow"
"""The user who writes, unless clickhouse.username names one."""
PASSWORD_FILE = "clickhouse.password"  # noqa: S105  a name
"""Below data_dir: the password made for that user."""


class Role(enum.StrEnum):
    """Of a request."""

    READER = "reader"
    WRITER = "writer"


_GRANTS = {
    Role.READER: ("SELECT, SHOW",),
    Role.WRITER: (
        "SELECT, SHOW, INSERT, ALTER TABLE, ALTER VIEW, TRUNCATE, OPTIMIZE",
        "CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP DATABASE, DROP TABLE, DROP VIEW",
    ),
}
"""On our databases: those whose names begin with clickhouse.database."""
_GENERAL = (
    "GRANT SELECT ON system.*",
    "GRANT CREATE TEMPORARY TABLE ON *.*",  # table functions that reach nothing need it too
)
_KEEPER = ("GRANT KILL QUERY ON *.*",)
"""What the server does itself."""

CONSTANT = (
    "format_schema",
    "format_template_row",
    "format_template_resultset",
    "format_avro_schema_registry_url",
    "output_format_schema",
    "additional_table_filters",
    "additional_result_filter",
    "merge_tree_disk",
)
"""Settings that name files, servers and disks, or hold expressions: no request may change them."""


def write(directory: Path, database: str) -> Path:
    """Write the engine's configuration below `directory` -> its main file. Raises OSError."""
    directory.mkdir(mode=0o700, exist_ok=True)
    config, users = directory / "config.xml", directory / "users.xml"
    granted = {
        **{
            str(role): [*_GENERAL, *(f"GRANT {each} ON {database}*.*" for each in grants)]
            for role, grants in _GRANTS.items()
        },
        "keeper": _KEEPER,
    }
    roles = "".join(f"<{role}><grants>{_queries(grants)}</grants></{role}>" for role, grants in granted.items())
    constant = "".join(f"<{name}><const/></{name}>" for name in CONSTANT)
    write_private(
        users,
        f"<clickhouse><profiles><default><constraints>{constant}</constraints></default></profiles>"
        f"<quotas><default/></quotas><roles>{roles}</roles>"
        "<users><default><no_password/><networks><ip>::/0</ip></networks><profile>default</profile>"
        f"<quota>default</quota><grants>{_queries(f'GRANT {role}' for role in granted)}</grants></default></users>"
        "</clickhouse>\n",
    )
    write_private(
        config,
        f"<clickhouse><user_directories><users_xml><path>{users}</path></users_xml></user_directories></clickhouse>\n",
    )
    return config


def role_of(settings: ClickHouseSettings, user: str, password: str) -> Role | None:
    """Of an HTTP user; None: not one who may ask."""
    right = secrets.compare_digest(user.encode(), settings.username.encode())
    if settings.password and secrets.compare_digest(password.encode(), settings.password.encode()) and right:
        return Role.WRITER
    return Role.READER if user == "default" != settings.username and not password else None


def with_password(settings: ClickHouseSettings, data_dir: Path) -> ClickHouseSettings:
    """These settings with a user who may write, by a password made once. Raises EnvironmentProblem.

    It is kept in data_dir, for its owner only.
    """
    if settings.password:
        return settings
    name = WRITER_NAME if settings.username == "default" else settings.username
    kept = data_dir / PASSWORD_FILE
    try:
        password = kept.read_text().strip() if kept.exists() else ""
        if not password:
            password = secrets.token_urlsafe(24)
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_private(kept, password + "\n")
    except OSError as error:
        raise EnvironmentProblem(
            f"the password of ClickHouse's user {name} cannot be kept in {kept}: {error.strerror}. Make room or change "
            "its owner, or set clickhouse.password"
        ) from error
    return settings.model_copy(update={"username": name, "password": password})


_FILE_FUNCTION = re.compile(r"^ *Function (?:\w+\.)?file\b", re.MULTILINE | re.IGNORECASE)
_ENGINE = re.compile(r"^ *Storage definition[^\n]*\n *Function ([^\s(]+)", re.MULTILINE)
ENGINES = frozenset(
    {"Atomic", "Memory", "Null", "Log", "TinyLog", "StripeLog", "Set", "Join", "Buffer", "Merge", "GenerateRandom"}
)
"""Of tables and databases, beside all that end in MergeTree: they keep what they are given, or read our tables."""


def objection(tree: str) -> str:
    """What in a statement no grant forbids, and we do: a sentence, or empty. `tree` is the engine's EXPLAIN AST."""
    if tree.startswith(("SetRoleQuery", "ExecuteAsQuery")):
        return "a request keeps the role of its user: send it as the user who may"
    if _FILE_FUNCTION.search(tree):
        return (
            "the embedded ClickHouse does not open files of this machine (file). Send the data with the request: "
            "INSERT INTO ... FORMAT ..."
        )
    for engine in _ENGINE.findall(tree):
        if engine not in ENGINES and not engine.endswith("MergeTree"):
            return (
                f"the embedded ClickHouse has no engine {engine}: it starts no consumers or programs, and reaches its "
                "own tables only. For such an engine set clickhouse.url to a ClickHouse server"
            )
    return ""


def _queries(grants: Iterable[str]) -> str:
    return "".join(f"<query>{grant}</query>" for grant in grants)
