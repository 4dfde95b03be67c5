"""Brings a ClickHouse server's tables up to date: applies schemas.clickhouse.ddl.migrations and records them.

Each migration can be run again without harm, so two workers that start together do no damage; the record saves the
work and tells people what a server has.
"""

from collections.abc import Mapping

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from common import logs
from common.errors import SettingsError
from common.settings import ClickHouseSettings
from schemas.clickhouse import retention
from schemas.clickhouse.ddl import made, migrations
from schemas.clickhouse.dropped import WHY_RETENTION
from schemas.clickhouse.horizon import DEFAULTS_SQL, TABLES_SQL, Horizon, shorter, stored_tables

log = logs.get("streams")

_NOT_THERE = frozenset({60, 81})  # UNKNOWN_TABLE, UNKNOWN_DATABASE
_TABLES_SQL = "SELECT name FROM system.tables WHERE database = {database:String}"


def migrate(client: Client, settings: ClickHouseSettings) -> list[int]:
    """Create the database and apply what is missing on this host. Returns the numbers that were applied.

    Where nothing is missing it only reads: what is run ON CLUSTER waits for all hosts, also for one that is down.
    Errors of clickhouse-connect pass through.
    """
    record = f"{settings.database}.schema_migrations"
    done = _done(client, settings)
    if done is None:
        client.command(f"CREATE DATABASE IF NOT EXISTS {settings.database}{settings.on_cluster}")
        client.command(
            f"CREATE TABLE IF NOT EXISTS {record}{settings.on_cluster} "
            "(number UInt32, name String, applied DateTime('UTC') DEFAULT now()) "
            f"ENGINE = {'Replicated' if settings.cluster else ''}ReplacingMergeTree ORDER BY number"
        )
        done = _done(client, settings) or {}
    _check(done, {each.number: each.name for each in migrations(settings)}, settings)
    if settings.cluster and not _has_tables(client, settings):
        done = {}  # a host that was added: it has the record from its replica
    applied = []
    for migration in migrations(settings):
        if migration.number in done:
            continue
        for statement in migration.statements:
            client.command(statement)
        client.insert(record, [[migration.number, migration.name]], column_names=["number", "name"])
        applied.append(migration.number)
    if applied:
        log.info("migrated", database=settings.database, migrations=applied)
    return applied


def _done(client: Client, settings: ClickHouseSettings) -> dict[int, str] | None:
    """What the host's record says; None: it has none."""
    record = f"{settings.database}.schema_migrations"
    try:
        rows = client.query(f"SELECT DISTINCT number, name FROM {record} ORDER BY number").result_rows  # noqa: S608  checked name
    except DatabaseError as error:
        if getattr(error, "code", None) not in _NOT_THERE:
            raise
        return None
    return {int(number): str(name) for number, name in rows}


def _has_tables(client: Client, settings: ClickHouseSettings) -> bool:
    """Whether the host has each table that the migrations make."""
    wanted = made(settings)
    rows = client.query(_TABLES_SQL, parameters={"database": settings.database}).result_rows
    return wanted <= {str(row[0]) for row in rows}


def _check(done: Mapping[int, str], known: Mapping[int, str], settings: ClickHouseSettings) -> None:
    """Raise SettingsError when the tables are those of a version that we do not know."""
    strange = [f"{number} {name}" for number, name in done.items() if known.get(number) != name]
    if strange:
        raise SettingsError(
            f"the database {settings.database} was made by another version of ayaflow: this one does not know its "
            f"migrations {', '.join(strange)}. Name another database (clickhouse.database), or remove that one; "
            "what is still in Kafka is windowed again"
        )


def remember(client: Client, settings: ClickHouseSettings, wanted: Horizon) -> None:
    """Make the tables know the names of inserts as far back as is wanted. They are never told to forget earlier.

    A server that does not let us is left as it is: what is repeated is compared with what is there, too.
    """
    names = stored_tables(settings.cluster)
    rows = client.query(TABLES_SQL, parameters={"database": settings.database}).result_rows
    tables = [(row[0], row[1], row[2]) for row in rows if row[0] in names]
    defaults = {name: int(value) for name, value in client.query(DEFAULTS_SQL).result_rows}
    for table, small in shorter(wanted, tables, defaults).items():
        values = ", ".join(f"{name} = {wanted.settings[name]}" for name in small)
        try:
            client.command(f"ALTER TABLE {settings.database}.{table}{settings.on_cluster} MODIFY SETTING {values}")
        except DatabaseError as error:
            log.warning(
                "a table knows the names of too few inserts, and may not be changed; see `ayaflow doctor`",
                table=table,
                error=str(error).splitlines()[0],
            )
        else:
            log.info("a table knows the names of more inserts now", table=table, settings=values)


def keep(client: Client, settings: ClickHouseSettings) -> None:
    """Make the tables keep their rows for as long as the settings say, also those that others made.

    Up to which day a shorter retention may have removed rows of flows is written down before it is made longer. A
    server that does not let us is left as it is.
    """
    rows = client.query(retention.TABLES_SQL, parameters={"database": settings.database}).result_rows
    for change in retention.changes(settings, [(row[0], row[1]) for row in rows], settings.retention):
        try:
            if change.setting == "flows_retention_days" and change.days > change.before:
                client.command(
                    f"INSERT INTO {settings.database}.dropped (table, day, time, why, done) "
                    f"SELECT 'flows', toDate(now('UTC')) - {change.before:d}, now64(3), '{WHY_RETENTION}', 1"
                )
            for statement in change.statements(settings.database, settings.on_cluster):
                client.command(statement)
        except DatabaseError as error:
            log.warning(
                "a table does not keep its rows for as long as the setting says, and may not be changed",
                table=change.table,
                setting=f"clickhouse.{change.setting}",
                error=str(error).splitlines()[0],
            )
        else:
            log.info(
                "a table keeps its rows for another time now",
                table=change.table,
                setting=f"clickhouse.{change.setting}",
                before=change.before,
                days=change.days,
            )
