"""Commands that are needed now and then: schemas, tokens, cleaning up after a crash, completion, the version."""

import sys
from importlib import metadata

import click
from click import shell_completion

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


COMMANDS = (schemas, hash_token, detach, completion, version)
