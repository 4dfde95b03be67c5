"""Commands that are needed now and then: schemas, Kafka's tools, tokens, cleaning up, completion, the version."""

import difflib
import sys
from importlib import metadata

import click
from click import shell_completion
from click.shell_completion import CompletionItem

from cli import options
from cli.commands.schemas import schemas
from cli.options import begin
from common.errors import QueryError

COMPLETE_ENV = "_AYAFLOW_COMPLETE"
"""Shells set it when they ask what may come next."""


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


def _kafka_tools(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from deploy.local.kafka.tools import TOOLS

    return [CompletionItem(name) for name in TOOLS if name.startswith(incomplete)]


@click.command("kafka-tool", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@options.common
@click.argument("name", shell_complete=_kafka_tools)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def kafka_tool(context: click.Context, *, name: str, arguments: tuple[str, ...]) -> int:
    """Run a command-line tool of Apache Kafka: NAME is what stands in kafka-NAME.sh.

    They come with the local broker, and speak to any. --bootstrap-server is kafka.bootstrap_servers where it is not
    given; what a broker with passwords or TLS needs goes into a file of the tool's own (--command-config, or
    --consumer.config). Options of ours stand before NAME, all that follows is the tool's.

    \b
    Examples:
      ayaflow kafka-tool topics --describe --topic ayaflow.flows
      ayaflow kafka-tool consumer-groups --describe --group ayaflow-streams
      ayaflow kafka-tool console-consumer --topic ayaflow.flows --property print.timestamp=true --max-messages 3
      ayaflow kafka-tool configs --alter --topic ayaflow.flows --add-config retention.ms=86400000
    """
    settings = begin(context)
    from deploy.local.kafka import tools

    if name not in tools.TOOLS:
        near = difflib.get_close_matches(name.removeprefix("kafka-").removesuffix(".sh"), tools.TOOLS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"they are: {', '.join(tools.TOOLS)}"
        raise QueryError(f"there is no tool {name!r}; {hint}")
    tools.run(settings.kafka, settings.local.kafka_jars_dir, name, arguments)


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
    settings = begin(context)
    from producer import detach as component

    return component.run(settings)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> int:
    """Print what makes a shell complete commands, options, settings and fields of filters.

    \b
    Examples:
      echo 'eval "$(ayaflow completion bash)"' >> ~/.bashrc
      echo 'eval "$(ayaflow completion zsh)"' >> ~/.zshrc
      ayaflow completion fish > ~/.config/fish/completions/ayaflow.fish
    """
    made = shell_completion.get_completion_class(shell)
    assert made is not None
    click.echo(made(context.find_root().command, {}, "ayaflow", COMPLETE_ENV).source())
    return 0


@click.command()
def version() -> int:
    """Print the version."""
    click.echo(f"ayaflow {metadata.version('ayaflow')}")
    return 0


COMMANDS = (schemas, kafka_tool, hash_token, detach, completion, version)
