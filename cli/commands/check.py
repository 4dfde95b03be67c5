"""Commands that check: whether nothing is missing, and whether each stage is well."""

import sys
from datetime import UTC, datetime

import click

from cli import options
from cli.options import begin
from common.errors import QueryError
from console.query import times


@click.command()
@options.common
@options.time_range(None)
@click.option("--node", default="", metavar="NAME", help="Only this node.")
@click.option(
    "--wait",
    default=0.0,
    type=click.FloatRange(0, 86_400),
    metavar="SECONDS",
    help="Wait so long until all is settled that was seen up to now.",
)
@click.option("--rollups", is_flag=True, help="Compare each rollup with flows, row by row and day by day.")
@options.form(choices=("table", "json"))
@click.pass_context
def audit(
    context: click.Context,
    *,
    since: str | None,
    until: str | None,
    utc: bool,
    node: str,
    wait: float,
    rollups: bool,
    form: str,
) -> int:
    """Check that every packet and byte the kernel saw is stored or counted as dropped.

    Speaks up to a moment, which it says: without --until as far as all is settled, which with everything running is
    some seconds ago. Exits with 0 when all until then is exact; with 1 when something differs, is not settled up to
    --until, or has not moved on for longer than it may.

    \b
    Examples:
      ayaflow audit
      ayaflow audit --since 1h --node web1 --format json
      ayaflow audit --until 2026-05-01T12:00Z
      ayaflow audit --rollups --since 7d
    """
    settings = begin(context)
    from console.audit import read, run
    from console.audit import rollups as by_day

    now = datetime.now(UTC)
    first, last = times.parse_range(since or None, until or None, now=now, local=not utc)
    span = read.Range(since=first, until=last, node=node, from_the_first=not since).within_retention(
        now, settings.clickhouse.flows_retention_days
    )
    if rollups:
        if node or wait:
            raise QueryError("--rollups compares whole days of all nodes as they are: leave out --node and --wait")
        return by_day.run(settings.clickhouse, span, form=form, out=sys.stdout)
    return run.run(settings, span, form=form, out=sys.stdout, wait_seconds=wait, utc=utc)


@click.command()
@options.common
@options.this_node
@options.interface
@options.form(choices=("table", "json"))
@click.pass_context
def doctor(context: click.Context, *, form: str) -> int:
    """Check each stage in order and say what to do.

    Beside a running `ayaflow up` the settings are those that it runs with, unless --config names others.

    \b
    Example:
      ayaflow doctor
    """
    settings = begin(context)
    from cli import doctor as checks
    from deploy.local.up.run import running

    flags = options.flags_of(context)
    beside = None if flags.names_a_file else running(settings.data_dir)
    if beside:
        settings = flags.load(beside)
    return checks.run(settings, beside=beside, as_json=form == "json")


COMMANDS = (audit, doctor)
