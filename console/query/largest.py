"""The largest of very many groups, by two small questions instead of one that holds all of them. Pure.

Who talks with whom is millions of groups in a month. Each falls, by a hash of its ends, into one of 65,536 buckets,
and is no larger than it: so the first question is for the heaviest buckets, the second for the groups of these. What it
finds is exact where the smallest of it is larger than the largest bucket that was left out; traffic has few large
conversations, so that is nearly always so, and a third question has the totals. Where it is not, all groups are asked
for.
"""

from collections.abc import Generator, Mapping
from datetime import timedelta
from typing import Any

from console.query import explore_sql
from console.query.explore_sql import DOMAIN, MEASURES, NAMED, PAIR, SIZES, Question
from console.query.filter_sql import Parameters

Rows = list[dict[str, Any]]
Steps = Generator[tuple[str, Parameters], Rows, tuple[Rows, dict[str, int]]]
"""Yields questions, is sent their rows, and returns groups and the totals of all of them, by column."""
_MOST_GROUPS = 200
_SHORTEST = timedelta(hours=6)
"""What is asked of less is few enough groups for one question."""


def top(question: Question, *, sort: str, limit: int, kept: int | None = None) -> Steps:
    """The largest groups of a question. `kept`: buckets of which the groups are looked at, if not some for each."""
    if _many(question, limit):
        kept = kept or 4 * limit + 64
        buckets = yield explore_sql.heavy(question, sort=sort, limit=kept + 1)
        if len(buckets) > kept:
            inside = [int(row["bucket"]) for row in buckets[:kept]]
            rows = yield explore_sql.top(question, sort=sort, limit=limit, buckets=inside)
            if len(rows) == limit and _size(rows[-1], sort) > int(buckets[kept]["size"]):
                totals = yield explore_sql.totals(question)
                return rows, _totals(question, totals)
    rows = yield explore_sql.top(question, sort=sort, limit=limit)
    return rows, _totals(question, rows)


def _many(question: Question, limit: int) -> bool:
    ends = sum(2 if name == PAIR else name.endswith("addr") for name in question.by)
    return ends > 1 and limit <= _MOST_GROUPS and question.until - question.since >= _SHORTEST


def _size(row: Mapping[str, Any], sort: str) -> int:
    return sum(int(row[name]) for name in SIZES[sort])


def _totals(question: Question, rows: Rows) -> dict[str, int]:
    names = (*MEASURES, NAMED) if DOMAIN in question.by else MEASURES
    return {name: int(rows[0][f"total_{name}"]) if rows else 0 for name in names}
