"""Fixtures that more than one file of this folder uses."""

from tests.integration.fix_api import api, store, stored
from tests.integration.fix_clickhouse import client, table
from tests.integration.fix_host import host
from tests.integration.fix_tables import kept_tables, run, tables, window
from tests.integration.fix_up import installation, interface

__all__ = [
    "api",
    "client",
    "host",
    "installation",
    "interface",
    "kept_tables",
    "run",
    "store",
    "stored",
    "table",
    "tables",
    "window",
]
