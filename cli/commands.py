"""The commands of `ayaflow`, each with an example. What a command runs is imported when it runs."""

import sys
from datetime import UTC, datetime

import click

from cli import options
from cli.options import flags_of
from common import logs
from common.errors import QueryError
from common.settings import Settings
from console.query import times


def _begin(context: click.Context) -> Settings:
    """Settings, and logs to standard error as they say."""
    settings = flags_of(context).load()
    logs.configure(level=settings.log.level, form=settings.log.format)
    return settings


@click.command()
@options.common
@options.this_node
@options.interface
@options.window
@options.allowed_ips
@click.pass_context
def up(context: click.Context) -> int:
    """Run everything on this machine and show its traffic.

    Starts Kafka, ClickHouse, the producer, streams and the console; Ctrl-C stops them all.

    \b
    Example:
      ayaflow up --interface eth0
    """
    settings = _begin(context)
    from deploy.local.up import run as component

    return component.run(settings)


@click.command()
@options.common
@options.this_node
@options.interface
@click.pass_context
def producer(context: click.Context) -> int:
    """Watch this node's packets and send them to Kafka.

    \b
    Example:
      ayaflow producer --interface eth0 --set kafka.bootstrap_servers=kafka1:9092
    """
    settings = _begin(context)
    from producer import component

    return component.run(settings)


@click.command()
@options.common
@options.window
@click.pass_context
def streams(context: click.Context) -> int:
    """Window packets into flows and store them in ClickHouse.

    \b
    Example:
      ayaflow streams --window 10 --set clickhouse.url=http://clickhouse1:8123
    """
    settings = _begin(context)
    from streams import component

    return component.run(settings)


@click.command()
@options.common
@options.allowed_ips
@click.pass_context
def console(context: click.Context) -> int:
    """Serve the dashboard and the API over HTTP.

    \b
    Example:
      ayaflow console --set console.listen=127.0.0.1:8080
      curl http://127.0.0.1:8080/api/health
      ayaflow console --set console.listen=0.0.0.0:8080 --allowed-ips 10.0.0.0/8
    """
    settings = _begin(context)
    from console import app as component

    return component.run(settings)


@click.command()
@options.common
@click.pass_context
def kafka(context: click.Context) -> int:
    """Run the local Kafka broker.

    \b
    Example:
      ayaflow kafka --data-dir /var/lib/ayaflow
    """
    settings = _begin(context)
    from deploy.local.kafka import broker as component

    return component.run(settings)


@click.command()
@options.common
@click.pass_context
def clickhouse(context: click.Context) -> int:
    """Run the local, embedded ClickHouse server.

    \b
    Example:
      ayaflow clickhouse --data-dir /var/lib/ayaflow
      curl 'http://127.0.0.1:8123/?query=SELECT+count()+FROM+ayaflow.flows'
    """
    settings = _begin(context)
    from deploy.local.clickhouse import server as component

    return component.run(settings)


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
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.pass_context
def replay(context: click.Context, *, files: tuple[str, ...], output: str | None, form: str, speed: str) -> int:
    """Run captures (pcap, pcapng; gzip, zstd; - is standard input) through the kernel program.

    Packets keep the time they were captured. They go to Kafka under a node name of their own, or with --output to a
    file, for which neither Kafka nor ClickHouse is needed.

    \b
    Examples:
      ayaflow replay office.pcapng --output flows.jsonl --window 60
      ayaflow replay monday.pcap.gz tuesday.pcap.gz --node office --speed 10
      tcpdump -i eth0 -c 1000 -w - | ayaflow replay - --output - --format csv
    """
    settings = _begin(context)
    from cli import replay as component

    return component.run(
        settings,
        component.Options(
            paths=files,
            node=flags_of(context).values.get("node"),
            output=output,
            form=form,
            speed=component.parse_speed(speed),
        ),
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
    context: click.Context, *, filter_words: tuple[str, ...], since: str, until: str, limit: int, sort: str, form: str
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
    settings = _begin(context)
    from console.query import filters, flow_sql
    from console.show import flows as history
    from console.store.client import Store

    first, last = times.parse_range(since, until, now=datetime.now(UTC))
    sql, parameters = flow_sql.flows(
        filters.parse(" ".join(filter_words)), since=first, until=last, sort=sort, limit=limit
    )
    with Store(settings.clickhouse) as store:
        count = history.run(store, sql, parameters, form=form, out=sys.stdout, binary=sys.stdout.buffer)
    if count == 0:
        click.echo(f"no flows from {times.iso(first)} to {times.iso(last)} match", err=True)
    elif count == limit:
        click.echo(f"the first {limit} are shown; --limit 0 shows all", err=True)
    return 0


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
    settings = _begin(context)
    from cli import top as view
    from console.query import filters

    return view.run(
        settings, filters.parse(" ".join(filter_words)), sort=sort, limit=limit, once=once, form=form, out=sys.stdout
    )


@click.command()
@options.common
@options.this_node
@options.form()
@click.argument("sql", metavar="SQL")
@click.pass_context
def query(context: click.Context, *, sql: str, form: str) -> int:
    """Run SQL, read-only; `FROM flows` is enough. With `-`, SQL is read from standard input.

    A FORMAT of the query's own wins over --format.

    \b
    Examples:
      ayaflow query 'SELECT protocol, sum(packets) FROM flows GROUP BY 1'
      ayaflow query - --format csv < report.sql
    """
    settings = _begin(context)
    from cli import query as query_module
    from console.store.client import Store

    if sql == "-":
        try:
            sql = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise QueryError("the SQL on standard input is not UTF-8 text") from error
    with Store(settings.clickhouse) as store:
        query_module.run(store, sql, form=form, out=sys.stdout, binary=sys.stdout.buffer)
    return 0


@click.command()
@options.common
@options.time_range(None)
@click.option("--node", default="", metavar="NAME", help="Only this node.")
@click.option(
    "--wait",
    default=0.0,
    type=click.FloatRange(0, 86_400),
    metavar="SECONDS",
    help="Wait so long until nothing is in flight, and fail if something still is.",
)
@options.form(choices=("table", "json"))
@click.pass_context
def audit(context: click.Context, *, since: str | None, until: str | None, node: str, wait: float, form: str) -> int:
    """Check that every packet and byte the kernel saw is stored or counted as dropped.

    Works while traffic flows: what is not stored yet is shown as in flight. Exits with 0 when all is exact.

    \b
    Examples:
      ayaflow audit
      ayaflow audit --since 1h --node web1 --format json
    """
    settings = _begin(context)
    from console.audit import read
    from console.store.client import Store

    now = datetime.now(UTC)
    first = times.parse(since, now=now, option="--since") if since else times.EARLIEST
    last = times.parse(until, now=now, option="--until") if until else times.LATEST
    if first >= last:
        raise QueryError(f"--since {since} ({times.iso(first)}) is not before --until {until} ({times.iso(last)})")
    span = read.Range(since=first, until=last, node=node).within_retention(
        now, settings.clickhouse.flows_retention_days
    )
    with Store(settings.clickhouse) as store:
        return read.run(store, span, form=form, out=sys.stdout, wait_seconds=wait)


@click.command()
@options.common
@options.this_node
@options.interface
@options.form(choices=("table", "json"))
@click.pass_context
def doctor(context: click.Context, *, form: str) -> int:
    """Check each stage in order and say what to do.

    \b
    Example:
      ayaflow doctor
    """
    settings = _begin(context)
    from cli import doctor as checks

    return checks.run(settings, as_json=form == "json")


@click.command()
@options.common
@click.pass_context
def detach(context: click.Context) -> int:
    """Remove all that ayaflow attached or pinned on this machine.

    For after a crash or kill -9; a producer that ends cleanly does it itself.

    \b
    Example:
      ayaflow detach
    """
    settings = _begin(context)
    from producer import detach as component

    return component.run(settings)


@click.command("hash-token")
@click.pass_context
def hash_token(_context: click.Context) -> int:
    """Make a token for the API, or hash the one on standard input.

    The hash goes to console.tokens; the token is sent as `Authorization: Bearer TOKEN`.

    \b
    Examples:
      ayaflow hash-token
      echo "$TOKEN" | ayaflow hash-token
    """
    import secrets

    from console.access import hash_token as hashed

    if sys.stdin.isatty():
        token = secrets.token_urlsafe(32)
        click.echo(f"token  {token}\nhash   {hashed(token)}")
        return 0
    token = sys.stdin.readline().strip()
    if not token:
        raise QueryError("there is no token on standard input; without a pipe, `ayaflow hash-token` makes one")
    click.echo(hashed(token))
    return 0


COMMANDS = (
    up,
    producer,
    streams,
    console,
    kafka,
    clickhouse,
    replay,
    flows,
    top,
    query,
    audit,
    doctor,
    hash_token,
    detach,
)
