"""Commands that run the parts of the system, until they are told to stop."""

import os

import click

from cli import options
from common.settings import Settings


def _begin(context: click.Context) -> Settings:
    """The settings; what is written from now on is for its owner only."""
    os.umask(0o077)
    return options.begin(context)


@click.command()
@options.common
@options.this_node
@options.interface
@options.deep_inspect
@options.window
@options.allowed_ips
@options.resolve_dns
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
@click.pass_context
def demo(context: click.Context) -> int:
    """Show made-up traffic of an office, on a machine that has none.

    Web, DNS, a database, films, a scan and a copy between network namespaces that only the demo sees, through the real
    system; a day before it is filled in. Ctrl-C ends it, and nothing of it stays. Of the settings only those of
    `console`, `local` and `log` count; its data is in a folder of its own in $TMPDIR, else /var/tmp.

    \b
    Example:
      ayaflow demo
    """
    settings = _begin(context)
    from deploy.local.demo import run as component

    return component.run(settings)


@click.command()
@options.common
@options.this_node
@options.interface
@options.deep_inspect
@click.pass_context
def producer(context: click.Context) -> int:
    """Watch this node's packets and send them to Kafka.

    \b
    Example:
      ayaflow producer --interface eth0 --set kafka.bootstrap_servers=kafka1:9092
    """
    settings = _begin(context)
    from producer import component
    from producer.roles import capabilities

    capabilities.give_up()
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
@options.resolve_dns
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


COMMANDS = (up, demo, producer, streams, console, kafka, clickhouse)
