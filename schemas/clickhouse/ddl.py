"""ClickHouse DDL: numbered, idempotent migrations in schemas/clickhouse/*.sql, rendered for one server or a cluster.

`NNNN_name.sql` is always applied; `NNNN_name.cluster.sql` only with `clickhouse.cluster` set. In the files,
`{local}` ends the name of a table that stores data: empty on one server, `_local` on a cluster, where the plain name
is the Distributed table over all shards. Released files are never edited: a change is a new number.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from common.settings import ClickHouseSettings

_FILE = re.compile(r"(\d{4})_(\w+?)(\.cluster)?\.sql")
_STATEMENT_END = re.compile(r";\s*$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file of DDL."""

    number: int
    name: str
    statements: tuple[str, ...]  # complete SQL, to be run one after the other


def migrations(settings: ClickHouseSettings) -> list[Migration]:
    """All migrations in order, rendered. Each can be run again without harm."""
    tokens = _tokens(settings)
    result = []
    for file in sorted(resources.files("schemas.clickhouse").iterdir(), key=lambda entry: entry.name):
        match = _FILE.fullmatch(file.name)
        if not match or (match[3] and not settings.cluster):
            continue
        text = _COMMENT.sub("", file.read_text("utf-8"))
        statements = [_render(part, tokens) for part in _STATEMENT_END.split(text) if part.strip()]
        result.append(Migration(number=int(match[1]), name=match[2], statements=tuple(statements)))
    return result


def _tokens(settings: ClickHouseSettings) -> Mapping[str, str]:
    engine = "Replicated" if settings.cluster else ""
    return {
        "database": settings.database,
        "on_cluster": f"ON CLUSTER '{settings.cluster}'" if settings.cluster else "",
        "cluster": settings.cluster or "",
        "local": "_local" if settings.cluster else "",
        "merge_tree": f"{engine}MergeTree",
        "replacing_merge_tree": f"{engine}ReplacingMergeTree",
        "aggregating_merge_tree": f"{engine}AggregatingMergeTree",
        "deduplication_window": "replicated_deduplication_window"
        if settings.cluster
        else "non_replicated_deduplication_window",
        "flows_retention_days": str(settings.flows_retention_days),
        "rollup_retention_days": str(settings.rollup_retention_days),
    }


def _render(statement: str, tokens: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: tokens[match[1]], statement).strip()
