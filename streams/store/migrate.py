"""Brings a ClickHouse server's tables up to date: applies schemas.clickhouse.ddl.migrations and records them.

Each migration can be run again without harm, so two workers that start together do no damage; the record saves the
work and tells people what a server has.
"""

from clickhouse_connect.driver.client import Client

from common import logs
from common.settings import ClickHouseSettings
from schemas.clickhouse.ddl import migrations

log = logs.get("streams")


def migrate(client: Client, settings: ClickHouseSettings) -> list[int]:
    """Create the database and apply what is missing. Returns the numbers that were applied.

    Errors of clickhouse-connect pass through.
    """
    on_cluster = f" ON CLUSTER '{settings.cluster}'" if settings.cluster else ""
    client.command(f"CREATE DATABASE IF NOT EXISTS {settings.database}{on_cluster}")
    record = f"{settings.database}.schema_migrations"
    client.command(
        f"CREATE TABLE IF NOT EXISTS {record}{on_cluster} "
        "(number UInt32, name String, applied DateTime('UTC') DEFAULT now()) "
        f"ENGINE = {'Replicated' if settings.cluster else ''}ReplacingMergeTree ORDER BY number"
    )
    done = {int(row[0]) for row in client.query(f"SELECT DISTINCT number FROM {record}").result_rows}  # noqa: S608  checked name
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
