"""ClickHouse DDL: numbered, idempotent migrations in schemas/clickhouse/*.sql, rendered for one server or a cluster.

`NNNN_name.sql` is always applied; `NNNN_name.cluster.sql` only with `clickhouse.cluster` set. In the files,
`{local}` ends the name of a table that stores data: empty on one server, `_local` on a cluster, where the plain name
is the Distributed table over all shards. Released files are never edited: a change is a new number.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Protocol

from schemas.clickhouse import rollup_ddl
from schemas.fields import KEYS, Field, Kind

_FILE = re.compile(r"(\d{4})_(\w+?)(\.cluster)?\.sql")
_STATEMENT_END = re.compile(r";\s*$", re.MULTILINE)
_MAKES = re.compile(r"CREATE (?:MATERIALIZED VIEW|TABLE|VIEW) IF NOT EXISTS \w+\.(\w+) ")
_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file of DDL."""

    number: int
    name: str
    statements: tuple[str, ...]  # complete SQL, to be run one after the other

    @property
    def makes(self) -> frozenset[str]:
        """The names of the tables and views that it creates."""
        return frozenset(made[1] for statement in self.statements if (made := _MAKES.match(statement)))


class Layout(Protocol):
    """What the tables depend on; the settings of ClickHouse are one."""

    @property
    def database(self) -> str:
        """Its name."""

    @property
    def cluster(self) -> str | None:
        """Its name; None: one server."""

    @property
    def flows_retention_days(self) -> int:
        """Of the raw windows."""

    @property
    def names_retention_days(self) -> int:
        """Of the table names."""

    @property
    def rollup_retention_days(self) -> int:
        """Of the rollups."""


def migrations(layout: Layout) -> list[Migration]:
    """All migrations in order, rendered. Each can be run again without harm."""
    tokens = _tokens(layout)
    result = []
    for file in sorted(resources.files("schemas.clickhouse").iterdir(), key=lambda entry: entry.name):
        match = _FILE.fullmatch(file.name)
        if not match or (match[3] and not layout.cluster):
            continue
        text = _COMMENT.sub("", file.read_text("utf-8"))
        statements = [_render(part, tokens) for part in _STATEMENT_END.split(text) if part.strip()]
        result.append(Migration(number=int(match[1]), name=match[2], statements=tuple(statements)))
    return result


def made(layout: Layout) -> frozenset[str]:
    """The names of the tables and views that all migrations create."""
    return frozenset[str]().union(*(each.makes for each in migrations(layout)))


@cache
def community_id_sql() -> str:
    """SQL of the Community ID over the columns of a flow."""
    return _expression("community_id.sql")


@cache
def record_id_sql() -> str:
    """SQL of the identity of a row of flows."""
    keys = "".join(f"{_octets(field)}, " for field in KEYS if field.kind is not Kind.NAME)
    return _expression("record_id.sql").replace("{keys}", keys)


def packets_sql(layout: Layout, seconds: int) -> list[str]:
    """Statements that make the table packets, if it is not there: it keeps them for so long."""
    files = ("packets.sql", "packets.cluster.sql") if layout.cluster else ("packets.sql",)
    tokens = {**_tokens(layout), "seconds": str(seconds)}
    return [_render(_expression(file), tokens) for file in files]


def _octets(field: Field) -> str:
    """SQL of a key as the octets that numpy has of it."""
    if field.kind is Kind.ADDRESS:
        return f"reinterpret({field.name}, 'FixedString(16)')"
    number = f"toUInt8({field.name})" if field.kind in {Kind.CHOICE, Kind.FLAG} else field.name
    return f"reinterpretAsFixedString({number})"


def _expression(file: str) -> str:
    text = resources.files("schemas.clickhouse").joinpath(file).read_text("utf-8")
    return _COMMENT.sub("", text).strip()


def _tokens(layout: Layout) -> Mapping[str, str]:
    engine = "Replicated" if layout.cluster else ""
    local = "_local" if layout.cluster else ""
    return {
        "database": layout.database,
        "on_cluster": f"ON CLUSTER '{layout.cluster}'" if layout.cluster else "",
        "cluster": layout.cluster or "",
        "local": local,
        "merge_tree": f"{engine}MergeTree",
        "replacing_merge_tree": f"{engine}ReplacingMergeTree",
        "aggregating_merge_tree": f"{engine}AggregatingMergeTree",
        "deduplication_window": "replicated_deduplication_window"
        if layout.cluster
        else "non_replicated_deduplication_window",
        "flows_retention_days": str(layout.flows_retention_days),
        "names_retention_days": str(layout.names_retention_days),
        "rollup_retention_days": str(layout.rollup_retention_days),
        "community_id": community_id_sql(),
        "record_id": record_id_sql(),
        **rollup_ddl.tokens(layout.database, local),
    }


def _render(statement: str, tokens: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: tokens[match[1]], statement).strip()
