"""Commands that correct what is stored: windows made again from Kafka, rollups made again from flows."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TypeVar

import click

from cli import options
from cli.options import begin
from cli.standard import say
from common.errors import QueryError
from common.settings import Settings
from console.query import times

F = TypeVar("F", bound=Callable[..., object])
_SECONDS = re.compile(r"(\d+)(s|m|h)?")
_UNITS = {None: 1, "s": 1, "m": 60, "h": 3600}


def _range(command: F) -> F:
    """`--from`, `--to`, and in which zone they are."""
    for option in (
        click.option("--utc/--local", "utc", default=True, help="Days, and TIME without an offset. Default: --utc."),
        click.option("--to", "until", required=True, metavar="TIME", help="Like --from; windows that begin before it."),
        click.option("--from", "since", required=True, metavar="TIME", help="2h, 1d, yesterday, or ISO 8601."),
    ):
        command = option(command)
    return command


def _parsed(since: str, until: str, *, utc: bool) -> tuple[int, int]:
    """Seconds since the Unix epoch."""
    now = datetime.now(UTC)
    first = times.parse(since, now=now, option="--from", local=not utc)
    last = times.parse(until, now=now, option="--to", local=not utc)
    if first >= last:
        raise QueryError(f"--from {since} is not before --to {until}")
    return int(first.timestamp()), int(last.timestamp())


def _settings(context: click.Context) -> Settings:
    """Beside a running `ayaflow up` those that it runs with, unless a file is named: they have who may write."""
    settings = begin(context)
    from deploy.local.up.run import running

    flags = options.flags_of(context)
    beside = None if flags.names_a_file else running(settings.data_dir)
    return flags.load(beside) if beside else settings


def _window(text: str) -> int:
    found = _SECONDS.fullmatch(text.strip().lower())
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 1 <= seconds <= 3_600:
        raise QueryError(f"--window {text!r} is no length of a window: 1s to 1h, such as 1s, 30s or 5m")
    return seconds


@click.command()
@options.common
@_range
@click.option("--window", required=True, metavar="LENGTH", help="Of the new windows: 1s to 1h.")
@click.option("--filter", "words", default="", metavar="FILTER", help="Keep these flows only; with --into.")
@click.option(
    "--into", default="", metavar="NAME", help="Keep them in this new table. Default: replace those of flows."
)
@click.pass_context
def rewindow(context: click.Context, *, since: str, until: str, utc: bool, window: str, words: str, into: str) -> int:
    """Window packets that are still in Kafka again, with another length.

    They are made in a table beside flows, by the code that makes the live ones, and compared with the ledger. Then
    they are kept under a name, or take the place of those in flows and in its rollups, day by day, while all runs.
    Whoever is killed goes on when the same command is given again.

    \b
    Examples:
      ayaflow rewindow --from 2026-05-01T12:00 --to 2026-05-01T13:00 --window 1s
      ayaflow rewindow --from 3h --to 2h --window 1s --filter 'addr = 10.0.0.7' --into incident
    """
    settings = _settings(context)
    from console.query import filter_sql, filters
    from streams.partition.again import Span
    from streams.rewindow import run
    from streams.rewindow.plan import Wanted

    chosen = filters.parse(words)
    sql = filter_sql.compile_filter(chosen)
    wanted = Wanted(
        span=Span(*_parsed(since, until, utc=utc)),
        window_seconds=_window(window),
        into=into,
        filter=words.strip(),
        where=f"({sql.keys}) AND ({sql.measures})" if chosen.expression else "",
        parameters=sql.parameters,
    )
    run.run(settings, wanted, tell=say)
    return 0


@click.command()
@options.common
@click.option("--give-up", "given_up", metavar="ID", help="Drop what an unfinished one made, and let its days go.")
@options.form(choices=("table", "json"))
@click.pass_context
def rewindows(context: click.Context, *, given_up: str | None, form: str) -> int:
    """List what `ayaflow rewindow` was asked for: how far it is, and what that takes on disk.

    What was killed keeps its table, and perhaps holds a day of flows, until the same command is given again, or until
    it is given up here: days that were replaced already stay so, with their rollups, and it says which.

    \b
    Examples:
      ayaflow rewindows
      ayaflow rewindows --format json | jq '.[] | select(.state == "making")'
      ayaflow rewindows --give-up 7ce43b43af_1
    """
    settings = _settings(context)
    from streams.rewindow import begun

    if given_up is not None:
        begun.give_up(settings.clickhouse, given_up, tell=say)
        return 0
    found = begun.begun(settings.clickhouse)
    if form == "json":
        click.echo(json.dumps([asdict(each) for each in found], indent=2, ensure_ascii=False))
        return 0
    from console.show import tables

    names = ("id", "state", "changed", "from", "to", "window", "into", "read", "disk", "filter", "error")
    rows = [
        (
            *(each.id, each.state, each.changed, each.window_from, each.window_until, f"{each.window_seconds}s"),
            *(each.into or "flows", tables.percent(each.messages_read, each.messages), tables.human_bytes(each.bytes)),
            *(each.filter, each.error),
        )
        for each in found
    ]
    numbers = [name in {"window", "read", "disk"} for name in names]
    tables.show(tables.build(names, rows, numbers=numbers), sys.stdout)
    for each in found:
        if not each.finished:
            say(f"{each.id}, should it no longer run, ends by: {each.command}")
    return 0


@click.command()
@options.common
@_range
@click.pass_context
def repair(context: click.Context, *, since: str, until: str, utc: bool) -> int:
    """Make the rollups of whole days anew from flows.

    For what `ayaflow audit --rollups` finds. Each day that the range touches is made anew at once; streams sets aside
    what comes late for it meanwhile.

    \b
    Example:
      ayaflow repair --from 2026-05-01 --to 2026-05-03
    """
    settings = _settings(context)
    from streams.store import repair as component

    component.run(settings.clickhouse, *_parsed(since, until, utc=utc), tell=say)
    return 0


COMMANDS = (rewindow, rewindows, repair)
