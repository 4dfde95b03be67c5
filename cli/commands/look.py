"""Commands that show traffic: now, stored, by SQL, or out of captures."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from cli import options
from cli.options import begin, flags_of
from cli.standard import say
from common.errors import QueryError
from common.times import iso, local
from console.query import times

F = TypeVar("F", bound=Callable[..., Any])


@click.command()
@options.common
@click.option("--once", is_flag=True, help="Print once and end.")
@click.option(
    "--sort",
    default="bytes",
    show_default=True,
    type=click.Choice(["bytes", "packets", "rate"]),
    help="The largest first, both directions together; rate: bytes a second.",
)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000), metavar="N", help="Connections.")
@options.resolve_dns
@options.form(choices=("table", "json"))
@click.argument("filter_words", metavar="[FILTER]", nargs=-1, shell_complete=options.complete_filter)
@click.pass_context
def top(context: click.Context, *, filter_words: tuple[str, ...], once: bool, sort: str, limit: int, form: str) -> int:
    """Show the connections that are active now; on a terminal, in place.

    Keys: b, p and r sort by bytes, packets and rate; q ends. --format json writes a line a second.

    \b
    Examples:
      ayaflow top
      ayaflow top 'port = https and addr in 10.0.0.0/8' --sort rate
      ayaflow top --once --format json | jq '.connections[0]'
    """
    settings = begin(context)
    from cli import top as view
    from console.query import filters

    return view.run(
        settings, filters.parse(" ".join(filter_words)), sort=sort, limit=limit, once=once, form=form, out=sys.stdout
    )


@click.command()
@options.common
@options.this_node
@options.time_range("10m")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(0), metavar="N", help="0: all.")
@click.option(
    "--sort",
    default="time",
    show_default=True,
    type=click.Choice(["time", "bytes", "packets"]),
    help="Newest, or largest (both directions), first.",
)
@options.form(choices=("table", "json", "csv", "arrow"))
@click.argument("filter_words", metavar="[FILTER]", nargs=-1, shell_complete=options.complete_filter)
@click.pass_context
def flows(
    context: click.Context,
    *,
    filter_words: tuple[str, ...],
    since: str,
    until: str,
    utc: bool,
    limit: int,
    sort: str,
    form: str,
) -> int:
    """Show stored flows, one line a flow and window.

    FILTER is `field op value`, joined by and, or, not and brackets; op is = != < <= > >= ~ or in. Fields are those
    of a flow record; addr and port stand for either side. docs/filters.md has all of it.

    \b
    Examples:
      ayaflow flows --since 1h --sort bytes
      ayaflow flows 'addr in 10.0.0.0/8 and dst_port in (80, 443) and bytes > 1M' --since today
      ayaflow flows 'protocol = tcp' --since 2026-05-01T12:00 --limit 0 --format csv > flows.csv
    """
    settings = begin(context)
    from cli import completeness
    from console.query import filters, flow_sql
    from console.show import flows as history
    from console.store.client import Store

    first, last = times.parse_range(since, until, now=datetime.now(UTC), local=not utc)
    steps = flow_sql.few(filters.parse(" ".join(filter_words)), since=first, until=last, sort=sort, limit=limit)
    with Store(settings.clickhouse) as store:
        count = history.run(store, *store.last(steps), form=form, out=sys.stdout, utc=utc)
        completeness.tell(store, settings, first, last, table="flows", form=form, out=sys.stdout, utc=utc)
    if count == 0:
        said = f"no flows from {iso(first)} to {iso(last)} match"
        say(said if utc else local(said))
    elif count == limit:
        say(f"the first {limit} are shown; --limit 0 shows all")
    return 0


def _view(name: str, text: str) -> Callable[[F], F]:
    return click.option(f"--{name}", "view", flag_value=name, help=text)


@click.command()
@options.common
@options.this_node
@options.time_range("1h")
@_view("domains", "Names of flows, those of most bytes first; so unless told otherwise.")
@_view("queries", "DNS transactions by name and type, with latencies and answers.")
@_view("failures", "DNS transactions that were answered by an error, or not at all.")
@_view("latency", "DNS servers, with the percentiles of their latency.")
@_view("unseen", "Clients whose DNS was not seen: it is encrypted, cached or goes another way.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), metavar="N", help="Rows.")
@options.form()
@click.argument("filter_words", metavar="[FILTER]", nargs=-1, shell_complete=options.complete_filter)
@click.pass_context
def names(
    context: click.Context,
    *,
    filter_words: tuple[str, ...],
    since: str,
    until: str,
    utc: bool,
    view: str | None,
    limit: int,
    form: str,
) -> int:
    """Show what flows are called, or DNS transactions, with the share of bytes that have a name.

    Names are read where capture.inspect is on (docs/names.md).

    \b
    Examples:
      ayaflow names --since 1h
      ayaflow names 'src_addr = 10.0.0.7 and domain = .example.org'
      ayaflow names --failures --since today
      ayaflow names --latency --format json
    """
    settings = begin(context)
    from cli import completeness
    from cli import names as component
    from console.query import filters
    from console.store.client import Store

    first, last = times.parse_range(since, until, now=datetime.now(UTC), local=not utc)
    chosen = filters.parse(" ".join(filter_words))
    with Store(settings.clickhouse) as store:
        component.run(
            store,
            chosen,
            view=view or "domains",
            since=first,
            until=last,
            limit=limit,
            form=form,
            out=sys.stdout,
            utc=utc,
        )
        completeness.tell(store, settings, first, last, form=form, out=sys.stdout, utc=utc)
    return 0


def complete_reports(_context: click.Context, _option: click.Parameter, incomplete: str) -> list[str]:
    """Names of reports, for the shell."""
    from console.reports.views import REPORTS

    return [name for name in REPORTS if name.startswith(incomplete)]


@click.command()
@options.common
@options.this_node
@options.time_range("24h")
@click.option("--addr", metavar="ADDRESS", help="The address that it is about; of throughput also a network.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1_000_000), metavar="N", help="Rows.")
@options.form()
@click.argument("name", metavar="NAME", shell_complete=complete_reports)
@click.pass_context
def report(
    context: click.Context, *, name: str, since: str, until: str, utc: bool, addr: str | None, limit: int, form: str
) -> int:
    """Ask a view: top_talkers, throughput, conversations, first_seen_of, first_seen_since, scans and others.

    Times in its rows are UTC; the range is of whole hours where the report is by the hour, and said below it.
    docs/sql.md has all of them, and the SQL.

    \b
    Examples:
      ayaflow report top_talkers --since 30d
      ayaflow report first_seen_of --addr 10.0.0.7
      ayaflow report throughput --addr 10.1.0.0/16 --since 7d --format csv
    """
    settings = begin(context)
    from cli import completeness
    from cli import query as query_module
    from console.reports import views
    from console.store.client import Store

    now = datetime.now(UTC)
    first, last = times.parse_range(since, until, now=now, local=not utc)
    asked = views.ask(name, since=first, until=last, now=now, addr=addr, limit=limit)
    with Store(settings.clickhouse) as store:
        query_module.run(store, asked.sql, form=form, out=sys.stdout)
        completeness.tell(
            store,
            settings,
            asked.since,
            asked.until,
            table=asked.table,
            form=form,
            out=sys.stdout,
            utc=True,
            named=True,
        )
    return 0


@click.command()
@options.common
@options.this_node
@options.time_range("24h")
@options.form()
@click.argument("sql", metavar="SQL")
@click.pass_context
def query(context: click.Context, *, sql: str, since: str, until: str, utc: bool, form: str) -> int:
    """Run SQL, read-only; `FROM flows` is enough. With `-`, SQL is read from standard input.

    A FORMAT of the query's own wins over --format. What is read, the SQL says alone; --since and --until are of which
    time is told how complete it is, where traffic is read.

    \b
    Examples:
      ayaflow query 'SELECT protocol, sum(packets + packets_rev) FROM flows WHERE primary GROUP BY 1'
      ayaflow query 'SELECT domain, sum(bytes + bytes_rev) AS b FROM flows WHERE primary GROUP BY 1 ORDER BY b DESC'
      ayaflow query "SELECT name, rcode, sum(count) FROM names WHERE kind = 'dns' AND rcode != 0 GROUP BY ALL"
      ayaflow query - --format csv < report.sql
    """
    settings = begin(context)
    from cli import completeness
    from cli import query as query_module
    from console.store.client import Store

    first, last = times.parse_range(since, until, now=datetime.now(UTC), local=not utc)
    if sql == "-":
        try:
            sql = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise QueryError("the SQL on standard input is not UTF-8 text") from error
    with Store(settings.clickhouse) as store:
        query_module.run(store, sql, form=form, out=sys.stdout)
        if table := query_module.table_of(sql):
            completeness.tell(store, settings, first, last, table=table, form=form, out=sys.stdout, utc=utc, named=True)
    return 0


@click.command()
@options.common
@options.this_node
@options.window
@click.option(
    "--output", metavar="FILE", help="Write flow records there (-: standard output); without it, send to Kafka."
)
@click.option(
    "--format",
    "form",
    default="json",
    show_default=True,
    type=click.Choice(["json", "csv", "arrow"]),
    help="Of --output; json is one FlowRecord a line.",
)
@click.option(
    "--speed",
    default="max",
    show_default=True,
    metavar="max|N",
    help="Of packets: 1 as they were captured, 10 ten times as fast.",
)
@click.option(
    "--interface",
    metavar="NAME",
    help="Of captures that do not name one; without it, each file's name. Give it for files of one rotated capture.",
)
@options.deep_inspect
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.pass_context
def replay(
    context: click.Context, *, files: tuple[str, ...], output: str | None, form: str, speed: str, interface: str | None
) -> int:
    """Run captures (pcap, pcapng; gzip, zstd; - is standard input) through the kernel program.

    Packets keep the time they were captured. They go to Kafka under a node name of their own, or with --output to a
    file, for which neither Kafka nor ClickHouse is needed.

    \b
    Examples:
      ayaflow replay office.pcapng --output flows.jsonl --window 60
      ayaflow replay monday.pcap.gz tuesday.pcap.gz --node office --speed 10
      ayaflow replay eth0-*.pcap --interface eth0 --output flows.jsonl
      tcpdump -i eth0 -c 1000 -w - | ayaflow replay - --output - --format csv
    """
    settings = begin(context)
    from cli import replay as component

    return component.run(
        settings,
        component.Options(
            paths=files,
            node=flags_of(context).values.get("node"),
            output=output,
            form=form,
            speed=component.parse_speed(speed),
            interface=interface,
        ),
    )


COMMANDS = (top, flows, names, report, query, replay)
