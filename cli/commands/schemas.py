"""`ayaflow schemas`: what our messages are, for whoever reads them elsewhere."""

import difflib
import json
import sys
from dataclasses import asdict

import click
from click.shell_completion import CompletionItem

from cli import options
from cli.options import begin
from common.errors import AyaflowError, QueryError, SettingsError


@click.group(no_args_is_help=False)
@options.common
def schemas() -> None:
    """Show our messages: Avro schemas, an engine's tables, all as AsyncAPI; register the schemas elsewhere.

    \b
    Examples:
      ayaflow schemas show FlowRecord > FlowRecord.avsc
      ayaflow schemas ddl flink > tables.sql
      ayaflow schemas register --url http://registry1:8081
      ayaflow schemas asyncapi > asyncapi.json
    """


def _names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from schemas.avro.registry import NAMES

    return [CompletionItem(name) for name in NAMES if name.startswith(incomplete)]


@schemas.command()
@click.argument("name", required=False, shell_complete=_names)
def show(*, name: str | None) -> int:
    """Print the newest version of a schema as an .avsc file; without NAME all of them, in one.

    \b
    Examples:
      ayaflow schemas show
      ayaflow schemas show PacketBatch | jq '.fields[].name'
    """
    from schemas.avro.registry import NAMES, newest

    if name is None:
        found = [json.loads(newest(each)) for each in NAMES]  # a list of records is a union, which is a schema, too
    elif name in NAMES:
        found = json.loads(newest(name))
    else:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"they are: {', '.join(NAMES)}"
        raise QueryError(f"there is no schema {name!r}; {hint}")
    click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    return 0


@schemas.command()
@options.common
@click.pass_context
def asyncapi(context: click.Context) -> int:
    """Print topics and messages as an AsyncAPI document (3.0), with the Avro schemas; /asyncapi.json of the console.

    \b
    Examples:
      ayaflow schemas asyncapi > asyncapi.json
      ayaflow schemas asyncapi --set kafka.topic_prefix=lab. | jq '.channels[].bindings.kafka.topicConfiguration'
    """
    settings = begin(context)
    from console.api.asyncapi import document
    from console.health import console_url

    found = document(
        settings.kafka,
        group=settings.streams.app_id,
        registry_url=settings.schema_registry.url,
        console_url=console_url(settings.console),
    )
    click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    return 0


@schemas.command()
@options.common
@click.argument("engine", type=click.Choice(["flink"]))
@click.pass_context
def ddl(context: click.Context, *, engine: str) -> int:
    """Print the statements that make tables of our topics in an ENGINE's SQL: flows, packets, packet_events, live.

    They name kafka.bootstrap_servers, and schema_registry.url or the console, as the settings do. What else your
    broker asks for is added there as the engine calls it. docs/consumers has queries.

    \b
    Example:
      ayaflow schemas ddl flink > tables.sql && sql-client.sh -i tables.sql
    """
    settings = begin(context)
    from console.health import console_url
    from schemas import flink
    from schemas.avro.registry import shown
    from schemas.topics import TopicNames

    registry = shown(settings.schema_registry.url or f"{console_url(settings.console)}/schema-registry")
    tables = {"flink": flink.ddl}[engine]
    text = tables(TopicNames.of(settings.kafka.topic_prefix), settings.kafka.bootstrap_servers, registry)
    click.echo(text, nl=False)
    return 0


@schemas.command()
@options.common
@click.option("--url", metavar="URL", help="The registry. Default: schema_registry.url.")
@options.form(choices=("table", "json"))
@click.pass_context
def register(context: click.Context, *, url: str | None, form: str) -> int:
    """Register all our schemas in a Confluent-compatible registry, each under its topic's name and "-value".

    Producers do so themselves, with the first message. This is for registries in which they may not write, and for
    readers that come before. What is there already stays as it is. Subjects are made BACKWARD_TRANSITIVE where the
    registry lets us. Exits with 1 when not all are there.

    \b
    Examples:
      ayaflow schemas register
      ayaflow schemas register --url https://ME:SECRET@registry1:8081 --format json
    """
    settings = begin(context)
    from console.show import tables
    from schemas.avro.registering import Registered
    from schemas.avro.registering import register as register_all
    from schemas.topics import TopicNames

    url = url or settings.schema_registry.url
    if not url:
        raise SettingsError("no schema registry is named: set schema_registry.url, or give --url")
    done: list[Registered] = []
    failure: AyaflowError | None = None
    try:
        for each in register_all(url, TopicNames.of(settings.kafka.topic_prefix)):
            done.append(each)  # noqa: PERF402  those before the one that fails are shown
    except AyaflowError as error:
        failure = error
    if form == "json":
        click.echo(json.dumps({"ok": failure is None, "schemas": [asdict(each) for each in done]}, indent=2))
    elif done:
        names = ("subject", "version", "id", "compatibility")
        rows = [(each.subject, each.version, each.schema_id, each.compatibility or "not ours to set") for each in done]
        tables.show(tables.build(names, rows, numbers=[False, True, True, False]), sys.stdout)
    if failure is not None:
        raise AyaflowError(str(failure)) from failure  # whatever it was: not all are there
    return 0
